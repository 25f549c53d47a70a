"""The learned decoder on stills of many kinds of people and styles: who is drawn worse?

No still shows what its face would look like with an open mouth, so there is nothing true to compare
with. Measured is whether the picture does what was asked, and what it keeps of the still.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.avatar import MAX_YAW, MIN_FACE_HEIGHT
from sfumato.errors import InputError, NoFaceError, SfumatoError, refusals
from sfumato.eval import colours
from sfumato.eval.decoder import detail, lips_apart
from sfumato.eval.decoder_sheets import eye_opening
from sfumato.eval.recognise import Recogniser
from sfumato.eval.reenact import SIZE, boxes_of
from sfumato.eval.stills_sheet import StillsSheet
from sfumato.geometry import topology
from sfumato.geometry.distances import lip_opening
from sfumato.inspect import posed
from sfumato.landmarks import Face, FaceEncoder
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.media.image import load_image
from sfumato.render import tint
from sfumato.render.decoder import Decoder
from sfumato.render.frame import Rendered
from sfumato.render.light import Light
from sfumato.render.portrait import Portrait, prepare
from sfumato.render.renderer import Renderer
from sfumato.render.slide import Slide

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]
Figures = dict[str, float]

SIDES = ("explicit", "learned")
SPEAKING = ("little", "half", "wide")
MOUTHS = (*SPEAKING, "smile")
LIDS = ("rest", "drooping", "shut")
TURNED = ("left", "right", "down", "up")
FACE_HEIGHTS = (120, 240)  # pixels in the source: where the groups of face heights part


@dataclass(frozen=True)
class Still:
    """One picture.

    Attributes:
        path: where it lies; ``name``: what the index calls it.
        groups: column -> the group it belongs to, as far as known before looking at it.
    """

    path: Path
    name: str
    groups: dict[str, str]


@dataclass(frozen=True)
class Driven:
    """A portrait in all poses, by both sides.

    Attributes:
        frames: side -> pose -> frame; landmarks are those asked of both sides.
        seen: side -> pose -> (478, 3) landmarks tracked in the frame, None where no face is found.
    """

    portrait: Portrait
    frames: dict[str, dict[str, Rendered]]
    seen: dict[str, dict[str, Floats | None]]


def poses(shut: Floats) -> dict[str, MotionFrame]:
    """What every still is asked to do.

    Args:
        shut: (2,) values of both blink axes at which the lids just meet.
    """
    left, right = (float(value) for value in shut)
    return {
        "rest": posed({}),
        "little": posed({"mouth_open": 0.8}),
        "half": posed({"mouth_open": 1.6}),
        "wide": posed({"mouth_open": 3.0, "mouth_wide": -0.5}),
        "smile": posed({"smile": 2.0, "mouth_wide": 1.5, "mouth_open": 0.8}),
        "drooping": posed({"blink_left": left / 2, "blink_right": right / 2}),
        "shut": posed({"blink_left": left, "blink_right": right}),
        "left": posed({}, yaw=18),
        "right": posed({}, yaw=-18),
        "down": posed({}, pitch=12),
        "up": posed({}, pitch=-12),
    }


def evaluate_stills(
    folder: Path,
    decoder: Decoder | None,
    labels: Path | None = None,
    most: int | None = None,
    report: Path | None = None,
    identity: Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Both sides on the stills of the test split, by group.

    Args:
        folder: pictures with ``index.tsv``.
        decoder: what makes a :class:`Renderer` learned; with None both sides are explicit.
        labels: a table, see :func:`read_stills`.
        most: stills at most, spread evenly; all of them with None.
        report: folder for ``stills.png``.
        identity: folder of a :class:`Recogniser`.
        progress: called with stills done and stills in all.

    Returns:
        :func:`summary` of all stills; the same ``by`` column and group; the ``stills`` with their
        groups; why some were ``skipped``.

    Raises:
        InputError: The tables are not usable, or none of the stills is.
    """
    stills = read_stills(folder, labels)
    count = min(len(stills), most or len(stills))
    chosen = [stills[i * len(stills) // count] for i in range(count)]
    recogniser = Recogniser(identity) if identity else None
    encoder, basis = FaceEncoder.load(), FaceBasis.load()
    found: dict[str, dict[str, Any]] = {}
    skipped: dict[str, dict[str, Any]] = {}
    sheet = StillsSheet()
    for done, still in enumerate(chosen, 1):
        try:
            driven = drive(still, encoder, basis, decoder)
            groups = still.groups | looks(driven.portrait, still.groups.get("style", ""))
            found[still.name] = {"groups": groups} | judge(driven, recogniser)
            if report is not None:
                sheet.add(still.name, groups, _tiles(driven))
        except SfumatoError as error:
            skipped[still.name] = {"groups": still.groups, "reason": str(error)}
        if progress is not None:
            progress(done, len(chosen))
    if not found:
        raise InputError(f"{folder}: no usable still of the test split in it{refusals(skipped)}")
    if report is not None:
        sheet.save(report)
    rows = list(found.values())
    return summary(rows) | {"by": by_group(rows), "stills": found, "skipped": skipped}


def read_stills(folder: Path, labels: Path | None = None) -> list[Still]:
    """Stills of the test split.

    Args:
        folder: has ``index.tsv`` with columns ``file``, ``split``, ``style``, ``notes``; a note
            ``fh=<number>`` is the face height in pixels before the picture was made smaller.
        labels: a table with a column ``file``, as in the index; each other column makes groups,
            an empty field belongs to none. A column ``style`` corrects that of the index.

    Raises:
        InputError: A table or a column is missing, or no still is of the test split.
    """
    rows = _table(folder / "index.tsv", ("file", "split", "style", "notes"))
    known: dict[str, dict[str, str]] = {}
    for row in _table(labels, ("file",)) if labels else []:
        known[row["file"]] = {k: v for k, v in row.items() if k and k != "file" and v}
    stills = []
    for row in rows:
        if row["split"] == "test":
            groups = {"style": row["style"], "face_height": _face_height(row["notes"])}
            groups = {k: v for k, v in groups.items() if v} | known.pop(row["file"], {})
            stills.append(Still(folder / row["file"], row["file"], groups))
    if not stills:
        raise InputError(f"{folder / 'index.tsv'}: no still of the test split; mark some as test")
    if known:
        raise InputError(f"{labels}: {min(known)} is no test still of {folder}; name it as there")
    return stills


def drive(still: Still, encoder: FaceEncoder, basis: FaceBasis, decoder: Decoder | None) -> Driven:
    """Make a portrait of a still, draw all poses by both sides and look for the face again.

    Raises:
        NoFaceError: The product refuses this picture, too.
    """
    photo = load_image(still.path)
    face = encoder.analyse(photo)
    if face.height < MIN_FACE_HEIGHT:
        raise NoFaceError(f"the face is {face.height:.0f} pixels high")
    portrait = prepare(photo, face.landmarks, encoder.matte(photo, face), basis, SIZE)
    if (yaw := abs(np.degrees(portrait.latents.pose.yaw))) > MAX_YAW:
        raise NoFaceError(f"the face is turned away by {yaw:.0f} degrees")
    usual = Slide.load(), Light.load()
    sides = (Renderer(portrait, basis), Renderer(portrait, basis, *usual, decoder))
    frames, seen = {}, {}
    for side, renderer in zip(SIDES, sides, strict=True):
        frames[side] = {n: renderer.render(f) for n, f in poses(basis.blink_shut).items()}
        tracked = {
            name: encoder.track(frame.image, Face(frame.landmarks, 1.0))
            for name, frame in frames[side].items()
        }
        seen[side] = {n: None if f is None else f.landmarks for n, f in tracked.items()}
    return Driven(portrait, frames, seen)


def looks(portrait: Portrait, style: str) -> dict[str, str]:
    """Groups that the picture itself tells: ``print``, and ``skin`` where a photo has colour."""
    canvas = portrait.canvas
    picture = tint.lab(canvas.image)
    oval = tint.inside(canvas.image.shape, canvas.landmarks, topology.FACE_OVAL)
    if tint.colourfulness(picture[oval]) < tint.GREY:
        return {"print": "one tint"}
    found = {"print": "colour"}
    if style == "photo":
        angle = colours.typology_angle(colours.cheeks(picture, canvas.landmarks))
        found["skin"] = colours.skin_tone(angle)
    return found


def judge(driven: Driven, recogniser: Recogniser | None = None) -> dict[str, Figures]:
    """Figures of one still for ``explicit`` and ``learned``; what cannot be measured is left out.

    Keys: those of :func:`obedience`, :func:`clarity` and, for ``learned``, :func:`drift`;
    ``mouth_tint``, how far the opened mouth lies from the face's own hues (CIELAB; only a print
    in one tint wants 0); ``identity``, mean cosine of all poses to the still.
    """
    canvas = driven.portrait.canvas
    picture = tint.lab(canvas.image)
    oval = tint.inside(canvas.image.shape, canvas.landmarks, topology.FACE_OVAL)
    tints = tint.Tints.of(picture[oval])
    source = recogniser.embed(canvas.image, canvas.landmarks) if recogniser else None
    result = {}
    for side, frames in driven.frames.items():
        figures = obedience(frames, driven.seen[side]) | clarity(driven.portrait, frames)
        figures |= _mouth_tint(frames, tints)
        if recogniser is not None and source is not None:
            seen = [recogniser.embed(f.image, f.landmarks) @ source for f in frames.values()]
            figures["identity"] = float(np.mean(seen))
        result[side] = figures
    result["learned"] |= drift(driven.frames["explicit"], driven.frames["learned"])
    return result


def obedience(frames: Mapping[str, Rendered], seen: Mapping[str, Floats | None]) -> Figures:
    """Does the picture do what was asked, as far as the face encoder sees it?

    Returns:
        ``lost``: share of poses without a face. ``mouth_error`` and ``turned_error``: mean
        distance of lip points from those asked, percent of the outer-eye distance, front and
        turned. ``mouth_opening``: opening of the inner lips over that asked. ``lids_error``: mean
        difference of lid openings from those asked, percent of the eye's width. ``lids_left``:
        percent of the resting opening that is left when the eyes should be shut.
    """
    result = {"lost": float(np.mean([points is None for points in seen.values()]))}
    asked = {n: f.landmarks for n, f in frames.items()}
    got = {n: points for n, points in seen.items() if points is not None}
    for key, names in (("mouth_error", MOUTHS), ("turned_error", TURNED)):
        errors = [lips_apart(got[n], asked[n]) for n in names if n in got]
        if errors:
            result[key] = float(np.mean(errors))
    open_ones = [n for n in SPEAKING if n in got]
    if open_ones:
        drawn, wanted = (
            sum(float(lip_opening(points[n][:, :2])) for n in open_ones) for points in (got, asked)
        )
        result["mouth_opening"] = drawn / max(wanted, 1e-6)
    lids = {n: float(eye_opening(got[n][None])[0]) for n in LIDS if n in got}
    if lids:
        apart = [abs(lids[n] - float(eye_opening(asked[n][None])[0])) for n in lids]
        result["lids_error"] = float(100 * np.mean(apart))
    if "rest" in lids and "shut" in lids:
        result["lids_left"] = 100 * lids["shut"] / max(lids["rest"], 1e-6)
    return result


def clarity(portrait: Portrait, frames: Mapping[str, Rendered]) -> Figures:
    """Fine detail in ``mouth_sharpness`` and ``eye_sharpness`` over that of the still's own boxes.

    A mouth that opens shows teeth that the still lacks: explicit and learned compare, not 1.
    """
    empty = np.zeros((1, 1, 2), np.float32)
    canvas = portrait.canvas
    own = boxes_of(Rendered(canvas.image, canvas.landmarks, empty, portrait.alpha))
    result = {}
    for part, names in (("mouth", MOUTHS), ("eye", ("rest", *TURNED))):
        still = max(detail(canvas.image, own[part]), 1e-6)
        made = [detail(frames[n].image, boxes_of(frames[n])[part]) for n in names]
        result[f"{part}_sharpness"] = float(np.mean(made) / still)
    return result


def drift(explicit: Mapping[str, Rendered], learned: Mapping[str, Rendered]) -> Figures:
    """What the decoder does to skin that it has no reason to touch, CIELAB over all poses.

    Returns:
        ``skin_apart``: mean distance of learned from explicit pixels of the face away from mouth
        and eyes. ``skin_shift``: distance of their mean colours: a wrong tone, not a wrong place.
    """
    apart, shifts = [], []
    for name, frame in explicit.items():
        skin = tint.inside(frame.image.shape, frame.landmarks, topology.FACE_OVAL)
        for x0, y0, x1, y1 in (frame.mouth_box(), *frame.eye_boxes()):
            skin[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = False
        if skin.any():
            away = tint.lab(learned[name].image)[skin] - tint.lab(frame.image)[skin]
            apart.append(np.linalg.norm(away, axis=1).mean())
            shifts.append(np.linalg.norm(away.mean(axis=0)))
    if not apart:
        return {}
    return {"skin_apart": float(np.mean(apart)), "skin_shift": float(np.mean(shifts))}


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """``count``; means by side, each still counting the same; ``error``: the standard error of
    what learned adds to explicit, still by still, None with one still.
    """
    found = list(rows)
    result: dict[str, Any] = {"count": len(found)}
    for side in SIDES:
        result[side] = {k: float(np.mean(v)) for k, v in _columns(found, side).items()}
    result["error"] = {
        key: float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        for key, values in _columns([{"added": _added(row)} for row in found], "added").items()
    }
    return result


def by_group(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Column -> group -> :func:`summary` of the stills whose ``groups`` say so."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for column, group in row["groups"].items():
            found[column][group].append(row)
    return {
        column: {group: summary(members) for group, members in sorted(groups.items())}
        for column, groups in sorted(found.items())
    }


def _added(row: dict[str, Any]) -> Figures:
    """Learned minus explicit; what :func:`drift` finds is a difference already."""
    explicit = {"skin_apart": 0.0, "skin_shift": 0.0} | row["explicit"]
    return {k: v - explicit[k] for k, v in row["learned"].items() if k in explicit}


def _columns(rows: list[dict[str, Any]], side: str) -> dict[str, list[float]]:
    keys = dict.fromkeys(key for row in rows for key in row[side])
    return {key: [row[side][key] for row in rows if key in row[side]] for key in keys}


def _tiles(driven: Driven) -> list[tuple[Image, Floats]]:
    """Pictures and landmarks for the columns of :class:`StillsSheet`."""
    canvas = driven.portrait.canvas
    rows = [driven.frames[side][pose] for pose in ("half", "shut") for side in SIDES]
    return [(canvas.image, canvas.landmarks), *((row.image, row.landmarks) for row in rows)]


def _mouth_tint(frames: Mapping[str, Rendered], tints: tint.Tints) -> Figures:
    found = []
    for frame in (frames[name] for name in ("half", "wide", "smile")):
        hole = tint.inside(frame.image.shape, frame.landmarks, topology.INNER_LIPS)
        found += [tints.apart(tint.lab(frame.image)[hole]).mean()] if hole.any() else []
    return {"mouth_tint": float(np.mean(found))} if found else {}


def _face_height(notes: str) -> str:
    found = re.search(r"\bfh=(\d+)", notes)
    if found is None:
        return ""
    height, (low, high) = int(found[1]), FACE_HEIGHTS
    return f"<{low}" if height < low else f"{low}-{high}" if height < high else f">={high}"


def _table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a table with tabs and a title line that names at least ``columns``."""
    try:
        with path.open(encoding="utf8", newline="") as handle:
            reader = csv.DictReader(handle, delimiter="\t", restval="")
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from None
    if missing:
        raise InputError(f"{path}: no column {missing[0]}; its first line must name it, with tabs")
    return rows
