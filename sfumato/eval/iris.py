"""Where eyes look, seen in the picture itself: the dark disc between the lids.

Landmark networks hardly follow irises (ours least of all), so gaze that was asked for is compared
with the place of the iris' disc, found by contrast alone (compare Daugman's operator).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.contact import EYEBALL_RADIUS
from sfumato.geometry import topology as topo
from sfumato.geometry.distances import eye_distance

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

RADIUS = 0.066  # of the iris over the outer-eye distance: 11.8 mm of 90
ZOOMED = 16.0  # pixels of the radius in the patch that is searched
RIM = 1.45  # outer edge of the ring around the disc, radii
_EYES = ((topo.LEFT_EYE, 33, 133), (topo.RIGHT_EYE, 362, 263))


def iris_places(image: Image, points: Floats) -> Floats:
    """Discs of both eyes relative to the middle of their corners, (2, 2) pixels.

    Args:
        image: (H, W, 3) uint8 RGB, an upright face.
        points: (478, 2 or 3) landmarks; only lids and corners count.
    """
    radius = RADIUS * float(eye_distance(points[:, :2]))
    return np.array([_place(image, points[:, :2], eye, radius) for eye in _EYES])


def gaze_between(places: Floats, rest: Floats, points: Floats) -> Floats:
    """Yaw and pitch (2,) in radians from the discs at rest to others, both eyes averaged."""
    ball = EYEBALL_RADIUS * float(eye_distance(points[:, :2]))
    moved = (places - rest).mean(axis=0) / ball
    angles: Floats = np.arcsin(np.clip(moved, -0.9, 0.9))
    return angles


def _place(image: Image, points: Floats, eye: tuple[tuple[int, ...], int, int], r: float) -> Floats:
    ring, first, last = eye
    middle = (points[first] + points[last]) / 2
    zoom, half = ZOOMED / r, 4.5 * ZOOMED
    matrix = np.array([[zoom, 0, half - zoom * middle[0]], [0, zoom, half - zoom * middle[1]]])
    side = (int(2 * half), int(2 * half))
    patch = cv2.warpAffine(image, matrix, side, flags=cv2.INTER_CUBIC)
    dark = cv2.GaussianBlur(patch.min(axis=-1).astype(np.float32), (0, 0), 2.0)
    lids = (points[list(ring)] - middle) * zoom + half
    seen = np.zeros(side, np.float32)
    cv2.fillPoly(seen, [np.rint(lids).astype(np.int32)], 1.0)
    grid = np.arange(-32, 33)
    far = np.hypot(*np.meshgrid(grid, grid)) / ZOOMED
    inside, rim = _shares(dark, seen, far <= 1), _shares(dark, seen, (far > 1.1) & (far < RIM))
    # A disc of which the lids leave little is a guess: the contrast counts by what is seen.
    score = (rim[0] - inside[0]) * np.sqrt(np.maximum(inside[1], 0)) * np.minimum(1, 4 * rim[1])
    score[inside[1] < 0.25] = -np.inf
    best = np.unravel_index(int(np.argmax(score)), score.shape)
    y, x = np.nonzero(score > score[best] - 0.03 * abs(score[best]))
    close = np.hypot(x - best[1], y - best[0]) < ZOOMED
    return np.array([x[close].mean() - half, y[close].mean() - half]) / zoom


def _shares(dark: Floats, seen: Floats, kernel: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean light under a kernel where the eye is open, and the share of it that is open."""
    k = kernel.astype(np.float32)
    open_ = cv2.filter2D(seen, -1, k, borderType=cv2.BORDER_CONSTANT)
    light = cv2.filter2D(dark * seen, -1, k, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(light / np.maximum(open_, 1e-3)), np.asarray(open_ / k.sum())
