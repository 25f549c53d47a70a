"""Values at the vertices of a triangle mesh, interpolated over a pixel grid by scan conversion.

Every triangle is cut into horizontal spans and every span into pixels, all with array operations,
so no compiled loop is needed. A pixel belongs to the one triangle whose half-open span holds its
centre, and a shared edge is evaluated with the same expression from both sides: a closed mesh
leaves neither gaps nor doubly claimed pixels. Where the mesh folds over itself the nearer triangle
wins (painter's order). Arrays hold one quantity per row here: numpy is several times faster so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_LEAST = np.float32(1e-6)


def rasterise(
    points: Floats, depth: Floats, values: Floats, triangles: Ints, shape: tuple[int, int]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Interpolate vertex values over the pixels of a grid.

    Args:
        points: (V, 2) x, y of the vertices in pixels of the grid; (0, 0) is a pixel centre.
        depth: (V,) smaller is nearer to the viewer.
        values: (V, C) what to interpolate, linear inside every triangle.
        triangles: (T, 3) vertex indices, either winding.
        shape: height and width of the grid.

    Returns:
        The field (height, width, C) float32, zero where no triangle lies, and the mask of covered
        pixels (height, width).
    """
    height, width = shape
    far_to_near = np.argsort(-depth[triangles].sum(axis=1), kind="stable")
    corners = np.concatenate([points.T[::-1], values.T]).astype(np.float32)
    row, left, right = _spans(corners, triangles[far_to_near], height)
    start = np.clip(np.ceil(left[0]), 0, width).astype(np.int32)
    stop = np.clip(np.ceil(right[0]), 0, width).astype(np.int32)
    length = np.maximum(stop - start, 0)
    # Later writes win, so near spans cover far ones. One more span stands for "no triangle".
    owner = np.full(height * width, len(row))
    owner[_runs(row * width + start, length)] = np.repeat(np.arange(len(row)), length)
    wide = np.maximum(right[0] - left[0], _LEAST)
    along = np.tile(_count(width).astype(np.float32), height) - np.append(
        left[0], np.float32(0)
    ).take(owner)
    field = np.empty((height * width, len(values[0])), np.float32)
    for channel, (begin, end) in enumerate(zip(left[1:], right[1:], strict=True)):
        slope = np.append((end - begin) / wide, np.float32(0))
        field[:, channel] = np.append(begin, np.float32(0)).take(owner) + along * slope.take(owner)
    covered = (owner < len(row)).reshape(height, width)
    return field.reshape(height, width, -1), covered


def _spans(corners: Floats, triangles: Ints, height: int) -> tuple[Ints, Floats, Floats]:
    """Cut triangles into rows.

    Args:
        corners: (2 + C, V) y, x and the values of the vertices.
        triangles: (T, 3).
        height: rows of the grid.

    Returns:
        Row (N,), and x and values (1 + C, N) at the left and the right end of every span.
    """
    by_row = np.argsort(corners[0][triangles], axis=1, kind="stable")
    index = np.take_along_axis(triangles, by_row, axis=1)
    top, middle, bottom = (np.ascontiguousarray(corners[:, index[:, i]]) for i in range(3))
    long, upper, lower = _edge(top, bottom), _edge(top, middle), _edge(middle, bottom)
    # The long edge is on the left when the middle corner lies to the right of it.
    on_left = (middle[1] - top[1]) * (bottom[0] - top[0]) > (bottom[1] - top[1]) * (
        middle[0] - top[0]
    )
    left = np.concatenate([np.where(on_left, long, e) for e in (upper, lower)], axis=1)
    right = np.concatenate([np.where(on_left, e, long) for e in (upper, lower)], axis=1)
    first, last = (np.clip(np.ceil(y), 0, height).astype(np.int32) for y in (top[0], bottom[0]))
    row = _runs(first, last - first)
    owner = np.repeat(np.arange(len(index)), last - first)
    part = owner + len(index) * (row >= middle[0][owner])
    return row, _at(left, part, row), _at(right, part, row)


def _edge(upper: Floats, lower: Floats) -> Floats:
    """Edges as start (2 + C) and slope against y (1 + C): (3 + 2 C, N)."""
    fall = np.maximum(lower[0] - upper[0], _LEAST)
    return np.concatenate([upper, (lower[1:] - upper[1:]) / fall])


def _at(edges: Floats, index: Ints, row: Ints) -> Floats:
    """x and values (1 + C, N) of the chosen edges in their rows."""
    count = len(edges) // 2
    chosen = edges.take(index, axis=1)
    result: Floats = chosen[1 : 1 + count] + (row - chosen[0]) * chosen[1 + count :]
    return result.astype(np.float32, copy=False)


def _runs(first: Ints, length: Ints) -> Ints:
    """Concatenated ranges ``first[i] .. first[i] + length[i] - 1``."""
    ends = np.cumsum(length, dtype=np.int32)
    total = int(ends[-1]) if len(ends) else 0
    result: Ints = _count(total) + np.repeat(first - (ends - length), length)
    return result


def _count(number: int) -> Ints:
    return np.arange(number, dtype=np.int32)
