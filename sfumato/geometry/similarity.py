"""Least-squares similarity (rotation, scale, translation) between point sets, in batches.

S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
IEEE PAMI 13(4), 1991; with point weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Similarity(NamedTuple):
    """Maps model points ``x`` to ``scale * rotation @ x + shift``; one per batch entry.

    Attributes:
        scale: (N,).
        rotation: (N, 3, 3), proper.
        shift: (N, 3).
    """

    scale: Array
    rotation: Array
    shift: Array

    def apply(self, points: Array) -> Array:
        """Moved points (N, P, 3) of ``points`` (P, 3) or (N, P, 3)."""
        turned = points @ np.swapaxes(self.rotation, -1, -2)
        moved: Array = self.scale[:, None, None] * turned + self.shift[:, None]
        return moved

    def undo(self, points: Array) -> Array:
        """The inverse of :meth:`apply` for points (N, P, 3)."""
        back: Array = (points - self.shift[:, None]) @ self.rotation / self.scale[:, None, None]
        return back


def similarity(model: Array, points: Array, weights: Array) -> Similarity:
    """Best similarity from ``model`` to each of ``points``.

    Args:
        model: (P, 3) or (N, P, 3).
        points: (N, P, 3).
        weights: (P,) or (N, P), not negative.
    """
    w = np.broadcast_to(weights, points.shape[:2])[..., None]
    w = w / w.sum(axis=1, keepdims=True)
    model = np.broadcast_to(model, points.shape)
    centre_a = (w * model).sum(axis=1, keepdims=True)
    centre_b = (w * points).sum(axis=1, keepdims=True)
    a, b = model - centre_a, points - centre_b
    u, s, vt = np.linalg.svd(np.swapaxes(w * b, 1, 2) @ a)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(axis=1) / (w * a * a).sum(axis=(1, 2))
    turned = (rotation @ np.swapaxes(centre_a, 1, 2))[..., 0]
    return Similarity(scale, rotation, centre_b[:, 0] - scale[:, None] * turned)
