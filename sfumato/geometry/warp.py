"""Values at the vertices of a triangle mesh, interpolated over a pixel grid by scan conversion.

Every triangle is cut into horizontal spans and every span into pixels, all with array operations,
so no compiled loop is needed. A pixel belongs to the one triangle whose half-open span holds its
centre, and a shared edge is evaluated with the same expression from both sides: a closed mesh
leaves neither gaps nor doubly claimed pixels. Where the mesh folds over itself the nearer triangle
wins (painter's order). Both values of a vertex travel as one complex number and every index has the
machine's width: numpy is several times faster so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Pairs = NDArray[np.complexfloating]
Ints = NDArray[np.intp]

_LEAST = np.float32(1e-6)
_FLAT = 1e-6  # twice the area in square pixels: such a triangle covers nothing, slopes are 0


def rasterise(
    points: Floats,
    depth: Floats,
    values: Floats,
    triangles: NDArray[np.integer],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Interpolate vertex values over the pixels of a grid.

    Args:
        points: (V, 2) x, y of the vertices in pixels of the grid; (0, 0) is a pixel centre.
        depth: (V,) smaller is nearer to the viewer.
        values: (V, 2) what to interpolate, linear inside every triangle.
        triangles: (T, 3) vertex indices, either winding.
        shape: height and width of the grid.

    Returns:
        The field (height, width, 2) float32, zero where no triangle lies.
    """
    height, width = shape
    x, y = (np.ascontiguousarray(axis, np.float32) for axis in points.T)
    pairs = np.ascontiguousarray(values, np.float32).view(np.complex64)[:, 0]
    corners = _by_row(_far_to_near(depth, triangles), y)
    xs, ys, value = x.take(corners), y.take(corners), pairs.take(corners)
    owner, row, start, length = _spans(xs, ys, height, width)
    across, down = _slopes(xs, ys, value)
    # Every span as a straight line over the columns; one more stands for "no triangle".
    slope, begin = np.zeros((2, len(owner) + 1), np.complex64)
    across.take(owner, out=slope[:-1])
    begin[:-1] = value[0].take(owner) - slope[:-1] * xs[0].take(owner)
    begin[:-1] += down.take(owner) * (row.astype(np.float32) - ys[0].take(owner))
    ends = np.cumsum(length)
    span = np.repeat(np.arange(len(length)), length)
    at = (row * width + start - ends + length).take(span)
    at += np.arange(len(span))
    # Later writes win, so near spans cover far ones.
    shown = np.full(height * width, len(owner))
    shown[at] = span
    field = slope.take(shown).reshape(height, width)
    field *= np.arange(width, dtype=np.float32)
    field += begin.take(shown).reshape(height, width)
    return field.view(np.float32).reshape(height, width, 2)


def _far_to_near(depth: Floats, triangles: NDArray[np.integer]) -> Ints:
    """Corners (3, T) of the triangles, the farthest first."""
    corners = np.ascontiguousarray(triangles.T, np.intp)
    far = depth.take(corners).sum(axis=0)
    return corners.take(np.argsort(-far, kind="stable"), axis=1)


def _by_row(corners: Ints, y: Floats) -> Ints:
    """The same (3, T) with the corners of each from top to bottom."""
    rows = list(corners)
    for i, j in ((0, 1), (1, 2), (0, 1)):
        one, two = rows[i], rows[j]
        sorted_ = y.take(one) <= y.take(two)
        rows[i], rows[j] = np.where(sorted_, one, two), np.where(sorted_, two, one)
    return np.stack(rows)


def _spans(xs: Floats, ys: Floats, height: int, width: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut triangles into the pixels of rows.

    Args:
        xs, ys: (3, T) corners from top to bottom.
        height, width: of the grid.

    Returns:
        Triangle, row, first column and number of pixels of every span (N,) that has some.
    """
    count = xs.shape[1]
    long = _lean(xs[[0, 2]], ys[[0, 2]])
    short = np.concatenate([_lean(xs[:2], ys[:2]), _lean(xs[1:], ys[1:])])
    # The long edge is on the left when the middle corner lies to the right of it.
    on_left = (xs[1] - xs[0]) * (ys[2] - ys[0]) > (ys[1] - ys[0]) * (xs[2] - xs[0])
    first, last = (np.clip(np.ceil(ys[i]), 0, height).astype(np.intp) for i in (0, 2))
    ends = np.cumsum(last - first)
    owner = np.repeat(np.arange(count), last - first)
    row = np.arange(len(owner)) + (last - ends).take(owner)
    part = owner + count * (row >= ys[1].take(owner))
    at = row.astype(np.float32)
    one = xs[0].take(owner) + (at - ys[0].take(owner)) * long.take(owner)
    top_x, top_y = xs[:2].ravel(), ys[:2].ravel()
    other = top_x.take(part) + (at - top_y.take(part)) * short.take(part)
    swap = on_left.take(owner)
    left, right = np.where(swap, one, other), np.where(swap, other, one)
    start, stop = (np.clip(np.ceil(edge), 0, width).astype(np.intp) for edge in (left, right))
    filled = np.flatnonzero(stop > start)
    start = start.take(filled)
    return owner.take(filled), row.take(filled), start, stop.take(filled) - start


def _lean(xs: Floats, ys: Floats) -> Floats:
    """Slopes (T,) of edges against y; of each the upper, then the lower end: (2, T)."""
    return np.asarray((xs[1] - xs[0]) / np.maximum(ys[1] - ys[0], _LEAST))


def _slopes(xs: Floats, ys: Floats, value: Pairs) -> tuple[Pairs, Pairs]:
    """Slopes (T,) of the values inside triangles, a pixel to the right and a pixel down."""
    x, y = (np.subtract(v[1:], v[0], dtype=np.float64) for v in (xs, ys))
    v = np.subtract(value[1:], value[0], dtype=np.complex128)
    area = x[0] * y[1] - x[1] * y[0]
    share = np.where(np.abs(area) < _FLAT, 0, 1 / np.where(area == 0, 1, area))
    across = (v[0] * y[1] - v[1] * y[0]) * share
    down = (v[1] * x[0] - v[0] * x[1]) * share
    return across.astype(np.complex64), down.astype(np.complex64)
