"""Painting helpers shared by eyes and mouth: smooth lens-shaped openings and colour statistics.

An opening (eye or mouth) lies between an upper and a lower curve that share their two corners.
Its mask is computed from distances to the curves, not rasterised from a polygon: it is
anti-aliased, and it changes continuously when the landmarks move by a fraction of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry.ramp import smoothstep

Array = NDArray[np.floating]  # float32 wherever speed matters
Image = NDArray[np.uint8]

_DENSE = 4  # curve samples between two landmarks
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Lens:
    """Pixels around an opening, measured in the opening's own frame.

    Attributes:
        rows: Row range of the region in the image.
        cols: Column range of the region in the image.
        x: (1, w) pixel columns.
        y: (h, 1) pixel rows.
        along: (h, w) position along the corner-to-corner line, 0 at the left corner, 1 at the
            right one.
        below: (h, w) distance below the upper curve in pixels (negative: above it).
        above: (h, w) distance above the lower curve in pixels (negative: below it).
        width: Distance of the corners in pixels.
    """

    rows: slice
    cols: slice
    x: Array
    y: Array
    along: Array
    below: Array
    above: Array
    width: float

    def mask(self, feather: float) -> Array:
        """Coverage (h, w) in 0..1, rising from 0 at the curves to 1 ``feather`` pixels inside."""
        return smoothstep(np.minimum(self.below, self.above) / np.float32(feather))


def luminance(colour: Array) -> Array:
    """Rec. 601 luma of (..., 3) colours."""
    return np.asarray(np.asarray(colour, np.float32) @ _LUMA)


def lens(
    upper: Array, lower: Array, shape: tuple[int, int], pad: float = 2.0, crop: bool = True
) -> Lens | None:
    """Measure the pixels around an opening.

    Args:
        upper: (n, 2) points of the upper curve in pixels, left to right, corners included.
        lower: (n, 2) points of the lower curve, the same corners.
        shape: Height and width of the image.
        pad: Margin around the opening in pixels.
        crop: Cut the region at the image border.

    Returns:
        The region, or None when it lies outside the image or has no width.
    """
    chord = upper[-1] - upper[0]
    width = float(np.hypot(chord[0], chord[1]))
    points = np.concatenate([upper, lower])
    x0, y0 = np.floor(points.min(axis=0) - pad).astype(int)
    x1, y1 = np.ceil(points.max(axis=0) + pad).astype(int) + 1
    if crop:
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, shape[1]), min(y1, shape[0])
    if width < 1.0 or x1 <= x0 or y1 <= y0:
        return None
    axis = (chord / width).astype(np.float32)
    x = np.arange(x0, x1, dtype=np.float32)[None]
    y = np.arange(y0, y1, dtype=np.float32)[:, None]
    along = (x - upper[0, 0]) * axis[0] + (y - upper[0, 1]) * axis[1]
    down = (y - upper[0, 1]) * axis[0] - (x - upper[0, 0]) * axis[1]
    knots = np.arange(np.floor(along.min()), np.ceil(along.max()) + 2, dtype=np.float32)
    heights = lookup(_profiles(upper, lower, axis, knots), along - knots[0])
    below = (down - heights[..., 0]) * heights[..., 2]
    above = (heights[..., 1] - down) * heights[..., 3]
    rows, cols = slice(int(y0), int(y1)), slice(int(x0), int(x1))
    return Lens(rows, cols, x, y, along / np.float32(width), below, above, width)


def lookup(table: Array, place: Array) -> Array:
    """Rows of a table (n, c) at fractional places (h, w), clamped to its ends: (h, w, c)."""
    rows = np.zeros_like(place)
    out = cv2.remap(table[None], place, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)


def strip(curve: Array, along: Array, across: Array) -> Array:
    """Places (m, n, 2) along a curve and square to it.

    Args:
        curve: (k, 2) points from left to right in pixels.
        along: (n,) place on the line from its first to its last point, 0..1 and beyond.
        across: (m,) distance below the curve over the length of that line (negative: above it).
    """
    chord = curve[-1] - curve[0]
    width = float(np.hypot(chord[0], chord[1]))
    axis = (chord / width).astype(np.float32)
    down = np.array([-axis[1], axis[0]], np.float32)
    at = along * np.float32(width)
    knots = np.arange(np.floor(at.min()), np.ceil(at.max()) + 2, dtype=np.float32)
    height, _, cosine, _ = (np.interp(at, knots, p) for p in _profiles(curve, curve, axis, knots).T)
    depth = height + across[:, None] * np.float32(width) / np.maximum(cosine, 0.5)
    place = curve[0] + along[None, :, None] * chord + depth[..., None] * down
    return np.asarray(place, np.float32)


def inverted(matrix: Array) -> Array:
    """Inverse of a (2, 2) matrix; numpy's own takes longer to begin."""
    (a, b), (c, d) = matrix.tolist()
    area = a * d - b * c
    return np.array([[d / area, -b / area], [-c / area, a / area]], np.float32)


def gap(upper: Array, lower: Array) -> float:
    """Largest opening between two curves of (n, 2) points, square to their chord, in pixels."""
    chord = upper[-1] - upper[0]
    normal = np.array([-chord[1], chord[0]]) / max(float(np.hypot(chord[0], chord[1])), 1e-6)
    return float(np.max((lower - upper)[1:-1] @ normal))


def tone(pixels: Array, low: float, high: float) -> Array:
    """Mean colour (3,) of the pixels (n, 3) between two luminance quantiles."""
    light = luminance(pixels)
    first, last = np.quantile(light, [low, high])
    chosen = pixels[(light >= first) & (light <= last)]
    return np.asarray(chosen.mean(axis=0), np.float32)


def discs(picture: Array, centres: Array, radius: float) -> Array:
    """Colours (n, 3) of a 5 x 5 grid within ``radius`` pixels of each of the points (k, 2)."""
    offsets = np.linspace(-radius, radius, 5, dtype=np.float32)
    dx, dy = np.meshgrid(offsets, offsets)
    x = np.clip(centres[:, 0, None] + dx.ravel(), 0, picture.shape[1] - 1).astype(int)
    y = np.clip(centres[:, 1, None] + dy.ravel(), 0, picture.shape[0] - 1).astype(int)
    return np.asarray(picture[y.ravel(), x.ravel()])


@dataclass(frozen=True)
class Coat:
    """Paint that is ready to be laid on a picture.

    Attributes:
        region: where it lies.
        colour: (h, w, 3) or (3,), 0..255.
        alpha: (h, w) coverage in 0..1.
    """

    region: Lens
    colour: Array
    alpha: Array

    def lay(self, image: Image) -> None:
        """Blend it into (H, W, 3) RGB, in place."""
        patch = image[self.region.rows, self.region.cols]
        base = patch.astype(np.float32)
        mixed = base + (self.colour - base) * self.alpha[..., None] + np.float32(0.5)
        patch[:] = np.clip(mixed, 0, 255)


def plane(lit: Array, weight: Array, region: Lens) -> Array:
    """Smooth shading (h, w, 3) of an opening: quadratic along it, by weighted ridge regression."""
    u = np.clip(region.along, 0, 1) - np.float32(0.5)
    v = np.clip(region.below / np.float32(region.width), 0, 0.4) - np.float32(0.15)
    design = np.stack([np.ones_like(u), u, u * u, v], axis=-1).reshape(-1, 4)
    flat, w = lit.reshape(-1, 3), weight.reshape(-1, 1)
    total = float(w.sum())
    gram = design.T @ (design * w) + np.diag([0.0, 0.02, 0.01, 0.05]) * total
    fit = np.linalg.solve(gram, design.T @ (flat * w))
    known = flat[w[:, 0] > 0.5]
    low, high = np.quantile(known, [0.05, 0.95], axis=0) if len(known) else (0.0, 255.0)
    return np.asarray(np.clip(design @ fit, low, high).reshape(lit.shape), np.float32)


def spread(colour: Array, weight: Array, width: float) -> Array:
    """Weighted colours (h, w, c) smoothed, from far where none are near, fine where many are."""
    step_down = max(1, round(0.015 * width))
    size = (max(2, colour.shape[1] // step_down), max(2, colour.shape[0] // step_down))
    table = np.concatenate([colour * weight[..., None], weight[..., None]], axis=-1)
    table = cv2.resize(table, size, interpolation=cv2.INTER_AREA)
    result = np.zeros((*table.shape[:2], colour.shape[-1]), np.float32)
    for k, sigma in enumerate((0.5, 0.25, 0.12, 0.06)):
        reach = sigma * width / step_down
        small = max(1, round(reach / 4))
        least = (max(2, size[0] // small), max(2, size[1] // small))
        coarse = cv2.resize(table, least, interpolation=cv2.INTER_AREA)
        blurred = np.asarray(cv2.GaussianBlur(coarse, (0, 0), reach / small), np.float32)
        blurred[..., :-1] /= blurred[..., -1:] + np.float32(1e-4)
        mean = cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR)
        trust = smoothstep(mean[..., -1:] * np.float32(5)) if k else np.float32(1)
        result = result * (1 - trust) + mean[..., :-1] * trust
    grown = cv2.resize(result, colour.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown.reshape(colour.shape), np.float32)


@lru_cache(maxsize=8)
def _spline(count: int) -> Array:
    """Catmull-Rom weights (samples, count): a smooth curve through ``count`` points."""
    position = np.linspace(0, count - 1, (count - 1) * _DENSE + 1)
    first = np.minimum(position.astype(int), count - 2)
    t = position - first
    basis = 0.5 * np.stack(
        [
            -(t**3) + 2 * t**2 - t,
            3 * t**3 - 5 * t**2 + 2,
            -3 * t**3 + 4 * t**2 + t,
            t**3 - t**2,
        ],
        axis=1,
    )
    weights = np.zeros((len(position), count))
    rows = np.arange(len(position))
    for k in range(4):
        np.add.at(weights, (rows, np.clip(first - 1 + k, 0, count - 1)), basis[:, k])
    return weights.astype(np.float32)


def _profiles(upper: Array, lower: Array, axis: Array, knots: Array) -> Array:
    """(n, 4): height of both curves over the chord at each knot, and the cosine of their slopes."""
    points = np.stack([upper - upper[0], lower - lower[0]], axis=1)
    curves = (_spline(len(upper)) @ points.reshape(len(upper), -1)).reshape(-1, 2)
    rotated = (curves @ np.array([[axis[0], -axis[1]], [axis[1], axis[0]]])).reshape(-1, 4)
    u, v = rotated[:, 0::2], rotated[:, 1::2]
    # Landmarks may fold back near a corner; interpolation needs rising abscissae.
    rise = np.arange(len(u), dtype=np.float32)[:, None] * np.float32(1e-4)
    u = np.maximum.accumulate(u, axis=0) + rise
    table = np.empty((len(knots), 4), np.float32)
    height, cosine = table[:, :2], table[:, 2:]
    for curve in (0, 1):
        height[:, curve] = np.interp(knots, u[:, curve], v[:, curve])
    # As np.gradient, in a tenth of its time.
    slope = np.empty_like(height)
    slope[1:-1] = (height[2:] - height[:-2]) * np.float32(0.5)
    slope[0], slope[-1] = height[1] - height[0], height[-1] - height[-2]
    np.divide(np.float32(1), np.sqrt(np.float32(1) + slope * slope), out=cosine)
    return table
