"""Backward warp field of a triangle mesh, by vectorised scan conversion.

Every triangle is cut into horizontal spans and every span into pixels, all with array operations,
so no compiled loop is needed. A pixel belongs to the one triangle whose half-open span holds its
centre, and shared edges are evaluated with the same expression from both sides: a closed mesh
leaves neither gaps nor doubly claimed pixels. Where the mesh folds over itself the nearer triangle
wins (painter's order).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


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
    order = np.argsort(-depth[triangles].sum(axis=1), kind="stable")
    left, right, row = _spans(points, values, triangles[order], height)
    start = np.clip(np.ceil(left[:, 0]), 0, width).astype(np.int32)
    stop = np.clip(np.ceil(right[:, 0]), 0, width).astype(np.int32)
    keep = np.flatnonzero(stop > start)
    start, length, row = start[keep], (stop - start)[keep], row[keep]
    left, right = left[keep], right[keep]
    first = row * width + start
    owner = np.full(height * width, -1, np.int32)
    # Later writes win: spans are ordered from far to near.
    owner[_runs(first, length)] = np.repeat(np.arange(len(row), dtype=np.int32), length)
    covered = owner >= 0
    pixel = np.flatnonzero(covered)
    span = owner[pixel]
    slope = (right[:, 1:] - left[:, 1:]) / (right[:, :1] - left[:, :1])
    along = (pixel % width).astype(np.float32) - left[span, 0]
    field = np.zeros((height * width, values.shape[1]), np.float32)
    field[pixel] = left[span, 1:] + along[:, None] * slope[span]
    return field.reshape(height, width, -1), covered.reshape(height, width)


def _spans(
    points: Floats, values: Floats, triangles: Ints, height: int
) -> tuple[Floats, Floats, Ints]:
    """Left and right end (N, 1 + C: x, values) and row (N,) of every triangle in every row."""
    corners = np.concatenate([points[:, 1:], points[:, :1], values], axis=1).astype(np.float32)
    by_row = np.argsort(corners[triangles, 0], axis=1, kind="stable")
    index = np.take_along_axis(triangles, by_row, axis=1)
    y = corners[index, 0]
    begin = np.clip(np.ceil(y[:, 0]), 0, height).astype(np.int32)
    end = np.clip(np.ceil(y[:, 2]), 0, height).astype(np.int32)
    count = end - begin
    row = _runs(begin, count)
    owner = np.repeat(np.arange(len(index), dtype=np.int32), count)
    top, middle, bottom = index[owner].T
    lower = row >= corners[middle, 0]
    long_edge = _cross(corners, top, bottom, row)
    short_edge = _cross(corners, np.where(lower, middle, top), np.where(lower, bottom, middle), row)
    swap = (long_edge[:, 0] > short_edge[:, 0])[:, None]
    return np.where(swap, short_edge, long_edge), np.where(swap, long_edge, short_edge), row


def _cross(corners: Floats, upper: Ints, lower: Ints, row: Ints) -> Floats:
    """Where the edges cross their rows: x and values, (N, 1 + C)."""
    a, b = corners[upper], corners[lower]
    fall = b[:, 0] - a[:, 0]
    part = (row - a[:, 0]) / np.where(fall > 0, fall, 1)
    result: Floats = a[:, 1:] + part[:, None].astype(np.float32) * (b[:, 1:] - a[:, 1:])
    return result


def _runs(first: Ints, length: Ints) -> Ints:
    """Concatenated ranges ``first[i] .. first[i] + length[i] - 1``."""
    ends = np.cumsum(length, dtype=np.int32)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int32) + np.repeat(first - (ends - length), length)
