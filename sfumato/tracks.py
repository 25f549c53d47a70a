"""Labelled clips for learning and judging the face bases.

Tracks are what ``sfumato/train/teacher.py`` writes: ``.npz`` files with ``landmarks`` (T, 478, 3)
in pixels (NaN: no face), in any folders.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import read_index, unlisted_person
from sfumato.facefit import steady

Array = NDArray[np.floating]

FRAMES_PER_CLIP = 48
FRAMES_PER_PERSON = 240


@dataclass(frozen=True)
class Sample:
    """Frames of one clip.

    Attributes:
        person: Who; clips of one person share an identity.
        clip: Path below the folder of tracks, without suffix.
        frames: (T, 478, 3) pixels, smoothed, only frames with a face.
        weight: Weight of the clip's frames in the expression basis.
    """

    person: str
    clip: str
    frames: Array
    weight: float


def read_track(path: Path, smooth: bool) -> Array:
    """Landmarks (T, 478, 3) float64 of the frames with a face."""
    with np.load(path, allow_pickle=False) as stored:
        frames = stored["landmarks"].astype(np.float64)
    frames = frames[np.isfinite(frames).all(axis=(1, 2))]
    return steady(frames) if smooth else frames


def load_samples(
    tracks: Path,
    index: Path | None,
    split: str = "train",
    smooth: bool = True,
    cleared: bool = False,
) -> list[Sample]:
    """Clips of ``split``; without an index all clips.

    The weights make every person count as the square root of their frames, so that single
    speakers with hundreds of clips do not own the basis.

    Args:
        tracks: Folder of the labels.
        index: The clips' ``index.tsv``, see :mod:`sfumato.corpus`.
        split: ``train`` or ``test``.
        smooth: Take jitter out and thin the frames; otherwise the first frames as they are.
        cleared: Only clips with a cleared licence; needs an index.

    Raises:
        InputError: An index that cannot be read, or without a cleared clip.
    """
    known = {} if index is None else {clip.name: clip for clip in read_index(index, cleared)}
    found: list[tuple[str, str, Array]] = []
    taken: Counter[str] = Counter()
    for path in sorted(tracks.rglob("*.npz")):
        clip = path.relative_to(tracks).with_suffix("").as_posix()
        info = known.get(clip)
        if index is not None and (info is None or info.split != split):
            continue
        person = info.person if info else unlisted_person(clip)
        limit = min(FRAMES_PER_CLIP, FRAMES_PER_PERSON - taken[person])
        if limit < 8:
            continue
        frames = read_track(path, smooth)
        if len(frames) >= 8:
            step = max(1, -(-len(frames) // limit)) if smooth else 1
            found.append(
                (person, clip, frames[::step][: limit * (1 if smooth else 4)].astype(np.float32))
            )
            taken[person] += len(found[-1][2])
    return [Sample(p, c, f, 1.0 / np.sqrt(taken[p])) for p, c, f in found]
