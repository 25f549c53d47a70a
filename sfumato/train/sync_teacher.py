"""Speech without a face gets the face to expect: a ridge from a speech teacher's features.

A few minutes of tracked people hold few words; hours of speech lie around. What lips do with a
sound is read off the teacher's features, learned on the tracked people; what else they do is
borrowed from those people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.speech import HOPS_PER_FRAME
from sfumato.train.sync_data import Clip

Array = NDArray[np.float32]

DIRECTIONS = 96  # of the teacher's features
OFFSETS = (-8, -5, -3, -2, -1, 0, 1, 2, 3, 5, 8)  # frames that the ridge sees
PENALTY = 0.1


@dataclass(frozen=True)
class Ridge:
    """From the teacher's features to motion.

    Attributes:
        middle, rows: mean (F,) and whitening (F, DIRECTIONS) of the features.
        weights: (len(OFFSETS) * DIRECTIONS + 1, n).
    """

    middle: Array
    rows: Array
    weights: Array

    def __call__(self, features: Array) -> Array:
        """Motion (T, n) without a mean from features (T, F)."""
        return np.asarray(_context(features, self.middle, self.rows) @ self.weights, np.float32)


def _context(features: Array, middle: Array, rows: Array) -> Array:
    white = (np.asarray(features, np.float32) - middle) @ rows
    last = len(white) - 1
    near = [white[np.clip(np.arange(last + 1) + k, 0, last)] for k in OFFSETS]
    return np.concatenate([*near, np.ones((last + 1, 1), np.float32)], axis=1)


def fit(clips: Sequence[Clip], features: dict[str, Path]) -> Ridge:
    """The ridge of the clips that have features; people count as the square root of their length.

    The mean of a clip is its person's habit, not the speech's.
    """
    sample = np.concatenate([np.load(features[c.name])[::5] for c in clips]).astype(np.float32)
    middle = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((sample - middle).T))
    order = np.argsort(values)[::-1][:DIRECTIONS]
    rows = (vectors[:, order] / np.sqrt(np.maximum(values[order], 1e-9))).astype(np.float32)
    length = Counter[str]()
    for clip in clips:
        length[clip.person] += len(clip)
    left, right = 0.0, 0.0
    for clip in clips:
        known = _context(np.load(features[clip.name]), middle, rows)
        count = min(len(known), len(clip.motion))
        known, motion = known[:count], clip.motion[:count] - clip.motion[:count].mean(axis=0)
        weight = 1 / np.sqrt(length[clip.person])
        left = left + weight * known.T @ known
        right = right + weight * known.T @ motion
    size = PENALTY * np.trace(left) / len(left)
    weights = np.linalg.solve(left + size * np.eye(len(left)), right)
    return Ridge(middle, rows, weights.astype(np.float32))


def expected(
    clips: Sequence[Clip], sounds: Path, listed: set[str]
) -> tuple[list[Clip], list[Array]]:
    """All speech with the motion to expect, and what the tracked people do besides.

    Args:
        clips: tracked people that learn.
        sounds: ``mel/<name>.npy`` and ``moon/<name>.npy``, the teacher's features.
        listed: names of the corpus; sounds of its other clips are left alone, some are held out.
    """
    found = {
        path.relative_to(sounds / "moon").with_suffix("").as_posix(): path
        for path in sorted((sounds / "moon").rglob("*.npy"))
    }
    known = [clip for clip in clips if clip.name in found]
    if len(known) < 2:
        return [], []
    ridge = fit(known, found)
    learns = {clip.name for clip in known}
    spoken, strays = [], []
    for name, path in found.items():
        mel = sounds / "mel" / f"{name}.npy"
        if (name in listed and name not in learns) or not mel.exists():
            continue
        motion = ridge(np.load(path))
        heard = np.load(mel)
        count = min(len(motion), len(heard) // HOPS_PER_FRAME)
        heard = heard[: count * HOPS_PER_FRAME]
        spoken.append(Clip(name, name.split("/")[0], motion[:count], heard, tracked=False))
    for clip in known:
        motion = ridge(np.load(found[clip.name]))
        count = min(len(motion), len(clip.motion))
        own = clip.motion[:count]
        strays.append(np.asarray(own - own.mean(axis=0) - motion[:count], np.float32))
    return spoken, strays
