"""What a folder of clips or pictures says about itself in its ``index.tsv``, where it has one.

Tab-separated with a header. Clips: ``clip`` (path below the folder) and, all optional, ``split``,
``kind``, ``synced``, ``person``, ``source``, ``content``, ``language``, ``licence`` and the
measured sync ``av_r``, ``av_lag``, ``av_r_best``. Pictures: ``file``, ``licence``.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from sfumato.errors import InputError

# Sources whose speakers no training of motion and decoder meets, whatever their split: they show
# how it carries over to new people.
HELD_OUT_SPEAKERS = ("grid_drpato", "grid_ansh", "grid_rohith", "lipify", "robustl2s")

Found = TypeVar("Found")

FEWEST_LAGS = 7  # clips whose lags tell that of their recordings
VIDEOS = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v"}  # teacher.py has them, too
# Licences that let anybody use and change a recording, as they are named.
_OPEN = re.compile(
    r"\b(CC0|CC[ -]BY(-SA)?|public domain|Unlicense|MIT|Apache([ -]2\.0)?|[AL]?GPL|BSD|ISC|MPL"
    r"|ODC-BY|PDDL|OGL)\b",
    re.I,
)
# A licence of the page or the code around a recording is none of the recording.
_OF_THE_CODE = re.compile(r"\b[\w.-]+(?: \d\.\d)? \(?(?:repo|(?:page )?template)\b[^);]*\)?", re.I)
_NOT_CLEARED = re.compile(
    r"\b(unknown|unclear|none|no licen[cs]e|not cleared|not separately licensed|template|research"
    r"|all rights reserved|proprietary|fair use|non-?commercial|NC|ND|no derivatives)\b",
    re.I,
)


@dataclass(frozen=True)
class ClipInfo:
    """What the index says of a clip; a folder without an index gives the defaults.

    Attributes:
        name: Path below the folder without its ending.
        path: The file.
        split: ``train`` or ``test``.
        kind: ``real``, ``generated`` or ``drawn``.
        synced: Whether the sound belongs to the lips.
        lag: Frames by which the lips of all its recordings come later than their sound: those of
            its source, where the source mixes several those of one name (``source:NAME_person``).
        trusted: False where the sound fits clearly better at another time.
        seconds, size: Length, and side of the picture in pixels; 0 where the index does not tell.
    """

    name: str
    path: Path
    split: str = "train"
    kind: str = "real"
    synced: bool = True
    person: str = ""
    source: str = ""
    content: str = "speech"
    language: str = ""
    licence: str = ""
    lag: float = 0.0
    trusted: bool = True
    seconds: float = 0.0
    size: int = 0

    @property
    def teaches(self) -> bool:
        """Whether motion and decoder may learn from it: of the training split, and no stranger."""
        return self.split == "train" and self.source not in HELD_OUT_SPEAKERS

    @property
    def who(self) -> str:
        """The person by name, in whatever source: ``source:NAME`` and ``other:name`` are one."""
        return self.person.rpartition(":")[2].lower()


def taught_people(clips: Iterable[ClipInfo]) -> set[str]:
    """Real people (:attr:`~ClipInfo.who`) of whom some clip teaches, in step with its sound or not.

    A clip of the test split may show one of them.
    """
    return {clip.who for clip in clips if clip.teaches and clip.kind == "real"}


def watchers(people: Iterable[str], share: int) -> set[str]:
    """People who watch a training instead of teaching it: about one in ``share``, of two one.

    Chance by name decides, so that everybody stays on their side when others come.
    """

    def chance(person: str) -> int:
        return zlib.crc32(person.encode()) % share

    ranked = sorted(set(people), key=lambda person: (chance(person), person))
    found = {person for person in ranked if chance(person) == 0}
    if len(ranked) < 2:
        return found
    return (found or {ranked[0]}) - ({ranked[-1]} if len(found) == len(ranked) else set())


def is_cleared(licence: str) -> bool:
    """Whether a licence is stated and covers the recording, as far as its words tell."""
    own = _OF_THE_CODE.sub("", licence)
    return bool(_OPEN.search(own)) and not _NOT_CLEARED.search(own)


def read_index(data: Path, cleared: bool = False) -> list[ClipInfo]:
    """Clips of a folder: by its index, or every video in it, see :func:`unlisted_person`.

    Args:
        data: The folder, or the index file itself.
        cleared: Leave out clips whose licence is not :func:`is_cleared`.

    Raises:
        InputError: An index that cannot be read, or no cleared clip.
    """
    index = data / "index.tsv" if data.is_dir() else data
    unlisted = data.is_dir() and not index.exists()
    clips = _unlisted(data) if unlisted else _listed(index)
    if not cleared:
        return clips
    return _some([c for c in clips if is_cleared(c.licence)], data)


def cleared_pictures(folder: Path) -> set[str]:
    """Paths below ``folder`` of the pictures whose licence is :func:`is_cleared`.

    Raises:
        InputError: No index, or no cleared picture.
    """
    index = folder / "index.tsv"
    rows = _rows(index, "file") if index.exists() else []
    return set(_some([r["file"] for r in rows if is_cleared(r.get("licence") or "")], folder))


def _some(found: list[Found], data: Path) -> list[Found]:
    if not found:
        raise InputError(
            f"Nothing in {data} has a cleared licence: state it in index.tsv, column licence,"
            " or leave out --cleared."
        )
    return found


def _unlisted(data: Path) -> list[ClipInfo]:
    videos = sorted(p for p in data.rglob("*") if p.suffix.lower() in VIDEOS)
    names = [p.relative_to(data).with_suffix("").as_posix() for p in videos]
    return [ClipInfo(n, p, person=unlisted_person(n)) for n, p in zip(names, videos, strict=True)]


def unlisted_person(name: str) -> str:
    """Who a clip without an index shows: its folder names them, or it is somebody of its own."""
    return name.rpartition("/")[0] or name


def _listed(index: Path) -> list[ClipInfo]:
    rows = _rows(index, "clip")
    lags: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        # Where sound and lips hardly agree anywhere, the lag is chance.
        if row.get("av_lag") and float(row.get("av_r_best") or 1) >= 0.45:
            lags.setdefault(_recordings(row), []).append(float(row["av_lag"]))
    return [_info(index.parent, row, lags.get(_recordings(row), [])) for row in rows]


def _recordings(row: dict[str, str]) -> tuple[str, str]:
    """Source of a clip, and what the names of people who were recorded together begin with."""
    person = (row.get("person") or "").rsplit(":", 1)[-1]
    return row.get("source") or "", person.split("_", 1)[0]


def _rows(index: Path, column: str) -> list[dict[str, str]]:
    try:
        with index.open(encoding="utf8", newline="") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the index {index}: {error}") from None
    if rows and not all(row.get(column) for row in rows):
        raise InputError(f"{index}: give every row a {column!r}, columns parted by tabs.")
    return rows


def middle_mean(values: list[float]) -> float:
    """Mean of the middle half of the values: whole-frame lags add up to a fraction of a frame."""
    found = np.sort(np.asarray(values, np.float64))
    return float(found[len(found) // 4 : len(found) - len(found) // 4].mean())


def _info(data: Path, row: dict[str, str], lags: list[float]) -> ClipInfo:
    # A clip's own lag is noisy; the middle of many is not: a mean without the outer quarters.
    lag = middle_mean(lags) if len(lags) >= FEWEST_LAGS else 0.0
    r, best, own = (float(row.get(k) or 0) for k in ("av_r", "av_r_best", "av_lag"))
    return ClipInfo(
        name=row["clip"].rsplit(".", 1)[0],
        path=data / row["clip"],
        split=row.get("split") or "train",
        kind=row.get("kind") or "real",
        synced=(row.get("synced") or "1") == "1",
        person=row.get("person") or str(PurePosixPath(row["clip"]).parent),
        source=row.get("source") or "",
        content=row.get("content") or "speech",
        language=row.get("language") or "",
        licence=row.get("licence") or "",
        lag=lag,
        trusted=not (best > r + 0.3 and abs(own - lag) > 3),
        seconds=float(row.get("seconds") or 0),
        size=int(float(row.get("size") or 0)),
    )
