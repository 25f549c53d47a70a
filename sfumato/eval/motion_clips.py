"""Which clips judge motion, and to which group of people they belong."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sfumato.corpus import HELD_OUT_SPEAKERS, ClipInfo, read_index, taught_people

SHORTEST = 1.15  # seconds
OF_A_PERSON = 4  # clips at most


def lip_group(clip: ClipInfo, taught: Collection[str] = ()) -> str | None:
    """The group of a held-out clip whose sound fits its lips; None for any other clip.

    ``grid``: speakers of the GRID corpus that no training hears, in whatever source; ``grid_seen``:
    GRID speakers of the training, other sentences; ``song``: sung, by other generators (real songs
    are not to be had); ``wild``: everybody else real who speaks, ``wild_seen`` where other clips of
    theirs teach; ``generated``: speech by other generators.

    Args:
        taught: people whose other clips teach, see :func:`sfumato.corpus.taught_people`.
    """
    new = clip.source in HELD_OUT_SPEAKERS
    if not (clip.trusted and clip.synced and (new or clip.split == "test")):
        return None
    if clip.kind != "real":
        return "song" if clip.content in {"song", "rap"} else "generated"
    if clip.content == "other":
        return None
    # GRID's first speaker is in several sources, that of the training among them.
    if clip.source in {"grid_s1", "grid_lpr"} or clip.person.lower().endswith("grid_s1"):
        return "grid_seen"
    if new and "grid" in clip.person.lower():
        return "grid"
    return "wild_seen" if clip.who in taught else "wild"


def held_out_speech(folder: Path, most: int | None = None) -> list[tuple[str, ClipInfo]]:
    """Groups and clips that judge motion, in turn by person, at most four of a person.

    Real people and songs; speech by other generators is nobody's measure and left out.

    Args:
        folder: clips with ``index.tsv``, or any videos (all of them, group ``all``).
        most: clips at most; the groups share them as they share the whole.
    """
    given = (folder / "index.tsv").exists()
    people: dict[str, list[tuple[str, ClipInfo]]] = {}
    clips = read_index(folder)
    taught = taught_people(clips)
    for clip in clips:
        group = lip_group(clip, taught) if given else "all"
        if group in {None, "generated"} or 0 < clip.seconds < SHORTEST:
            continue
        person = clip.person if given else clip.name
        people.setdefault(person, []).append((group or "all", clip))
    # The longest clips of a person first: they tell most.
    ranked = [sorted(p, key=lambda item: (-item[1].seconds, item[1].name)) for p in people.values()]
    turns = [[clips[i] for clips in ranked if i < len(clips)] for i in range(OF_A_PERSON)]
    chosen = [item for turn in turns for item in turn]
    return chosen if most is None else _shared(chosen, most)


def _shared(chosen: list[tuple[str, ClipInfo]], most: int) -> list[tuple[str, ClipInfo]]:
    """The first ``most``, groups in turn, so that few clips still show every group."""
    groups: dict[str, list[tuple[str, ClipInfo]]] = {}
    for item in chosen:
        groups.setdefault(item[0], []).append(item)
    longest = max((len(g) for g in groups.values()), default=0)
    turns = [[g[i] for g in groups.values() if i < len(g)] for i in range(longest)]
    return [item for turn in turns for item in turn][:most]
