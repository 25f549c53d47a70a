"""Faces off the speech teacher's features in closed form: seconds instead of minutes.

Less exact than the networks of :mod:`sfumato.train.speech_labels`, with the same use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.train.motion_data import Clip
from sfumato.train.motion_targets import Measures

Array = NDArray[np.float32]

REACH, STRIDE = 12, 2  # frames to either side that are looked at, and every how manyth
PENALTY = 0.03  # of the mean square of the features
_LEAST = 0.3  # spread of a coefficient below which a clip says little about it


class Ridge:
    """Teacher features (1, T, n) -> expression (1, T, n_out), as a ``Reader``."""

    def __init__(self, weights: Array) -> None:
        self.weights = weights

    def __call__(self, features: Tensor) -> Tensor:
        """See the class."""
        rows = around(features[0].numpy()) @ self.weights
        return torch.from_numpy(rows.astype(np.float32))[None]


def around(features: Array) -> Array:
    """(T, n) features -> (T, m) with those of the frames around and a 1; the ends are held."""
    frames = np.arange(len(features))
    parts = [
        features[np.clip(frames + shift, 0, len(features) - 1)]
        for shift in range(-REACH, REACH + 1, STRIDE)
    ]
    return np.concatenate([*parts, np.ones((len(features), 1))], axis=1).astype(np.float32)


def fit_ridge(clips: Sequence[Clip], measures: Measures, seed: int) -> Ridge:
    """The ridge of clips with features and faces; takes what ``train_reader`` takes.

    Every clip has the usual spread of each coefficient, so that people whose mouths move much do
    not decide how sounds and lips go together.
    """
    faces = [c.motion[c.good] for c in clips if c.motion is not None and c.good is not None]
    usual = np.mean([face.std(axis=0) for face in faces], axis=0)
    square = np.zeros(())
    for clip in clips:
        assert clip.teacher is not None and clip.motion is not None and clip.good is not None
        rows = around(np.asarray(clip.teacher, np.float32))[clip.good]
        face = clip.motion[clip.good]
        spread = np.maximum(face.std(axis=0), _LEAST * usual + 1e-6)
        both = np.concatenate([rows, face / spread * usual], axis=1)
        square = square + clip.weight / len(clip) * (rows.T @ both)
    known = square.shape[0]
    gram, product = square[:, :known], square[:, known:]
    gram = gram + PENALTY * np.trace(gram) / known * np.eye(known)
    return Ridge(np.linalg.solve(gram, product).astype(np.float32))
