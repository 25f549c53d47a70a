"""Faces for speech that has none: what a regression from the speech teacher's features expects.

The teacher heard thousands of hours and its features know sounds apart whatever the voice, so a
linear regression from them to the tracked faces carries over to new people and languages better
than a network trained on the few faces. The regression looks far to both sides and cannot run
live; the motion network learns from it on all the speech there is (distillation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sfumato.train.motion_data import Clip

Array = NDArray[np.float32]

OFFSETS = (-12, -8, -5, -3, -2, -1, 0, 1, 2, 3, 5, 8, 12)  # frames
RIDGE = 0.03
BLEND = 0.5  # share of the expected face in the target of a tracked one: tracks are noisy


def spread_out(features: NDArray[np.floating]) -> Array:
    """Features (T, n) of the frames at ``OFFSETS``, side by side, and a one."""
    count, most = len(features), max(OFFSETS)
    padded = np.pad(np.asarray(features, np.float32), ((most, most), (0, 0)), mode="edge")
    parts = [padded[most + o : most + o + count] for o in OFFSETS]
    return np.concatenate([*parts, np.ones((count, 1), np.float32)], axis=1)


def regression(clips: Sequence[Clip]) -> Array | None:
    """Weights from :func:`spread_out` features to motion; None without faces and features."""
    products: Array | None = None
    cross = np.zeros((0, 0), np.float32)
    total = 0.0
    for clip in clips:
        if clip.motion is None or clip.good is None or clip.teacher is None:
            continue
        seen = spread_out(clip.teacher)[clip.good]
        weight = np.float32(clip.weight / len(clip))
        if products is None:
            products = np.zeros((seen.shape[1], seen.shape[1]), np.float32)
            cross = np.zeros((seen.shape[1], clip.motion.shape[1]), np.float32)
        products += (seen.T @ seen) * weight
        cross += (seen.T @ clip.motion[clip.good]) * weight
        total += float(weight) * len(seen)
    if products is None:
        return None
    ridge = np.full(len(products), RIDGE * total)
    ridge[-1] = 1e-6 * total
    return np.linalg.solve(products.astype(np.float64) + np.diag(ridge), cross).astype(np.float32)


def taught(clips: Sequence[Clip]) -> list[Clip]:
    """The clips, those with features of the teacher with expected faces or mixed with them."""
    weights = regression(clips)
    if weights is None:
        return list(clips)
    return [clip if clip.teacher is None else _taught(clip, weights) for clip in clips]


def _taught(clip: Clip, weights: Array) -> Clip:
    assert clip.teacher is not None
    motion = spread_out(clip.teacher) @ weights
    if clip.motion is not None and clip.good is not None:
        blend = BLEND * motion + (1.0 - BLEND) * clip.motion
        motion = np.where(clip.good[:, None], blend, motion)
    return replace(clip, motion=motion.astype(np.float32), good=np.ones(len(motion), bool))
