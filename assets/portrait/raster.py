"""A small software rasteriser: which triangle is seen through which pixel."""

from __future__ import annotations

import numpy as np

CHUNK = 4_000_000


def vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3), area weighted."""
    a, b, c = (points[triangles[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    out = np.zeros_like(points)
    for corner in range(3):
        for axis in range(3):
            out[:, axis] += np.bincount(triangles[:, corner], face[:, axis], len(points))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


def visible(
    pixels: np.ndarray, triangles: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which triangle lies nearest at each pixel.

    Args:
        pixels: (N, 3) x right, y down in pixels, z away from the viewer.
        triangles: (M, 3).

    Returns:
        index (H, W) int64, -1 where nothing is; weights (H, W, 3) of the three corners.
    """
    corners = pixels[triangles]
    low = np.floor(corners[..., :2].min(axis=1)).astype(int)
    high = np.ceil(corners[..., :2].max(axis=1)).astype(int)
    low = np.maximum(low, 0)
    high = np.minimum(high, [width - 1, height - 1])
    size = np.maximum(high - low + 1, 0)
    area = size[:, 0] * size[:, 1]
    order = np.flatnonzero(area > 0)
    index = np.full(height * width, -1)
    depth = np.full(height * width, np.inf)
    weights = np.zeros((height * width, 3))
    start = 0
    total = np.cumsum(area[order])
    while start < len(order):
        base = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, base + CHUNK, side="right")), start + 1)
        fill(corners, order[start:stop], low, size, width, index, depth, weights)
        start = stop
    return index.reshape(height, width), weights.reshape(height, width, 3)


def fill(
    corners: np.ndarray,
    chosen: np.ndarray,
    low: np.ndarray,
    size: np.ndarray,
    width: int,
    index: np.ndarray,
    depth: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Test all pixels of the boxes of ``chosen`` triangles; keep the nearest in the buffers."""
    count = size[chosen, 0] * size[chosen, 1]
    which = np.repeat(chosen, count)
    local = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    x = low[which, 0] + local % size[which, 0]
    y = low[which, 1] + local // size[which, 0]
    a, b, c = corners[which, 0], corners[which, 1], corners[which, 2]
    det = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        v = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (y - a[:, 1])) / det
        w = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (x - a[:, 0]) * (b[:, 1] - a[:, 1])) / det
    u = 1 - v - w
    inside = (u >= -1e-6) & (v >= -1e-6) & (w >= -1e-6)
    z = u * a[:, 2] + v * b[:, 2] + w * c[:, 2]
    pixel = (y * width + x)[inside]
    z = z[inside]
    # Far to near, so that the last write to a pixel is the nearest.
    order = np.argsort(-z, kind="stable")
    pixel, z = pixel[order], z[order]
    kept = np.stack([u, v, w], axis=1)[inside][order]
    which = which[inside][order]
    nearer = z < depth[pixel]
    pixel, z, kept, which = pixel[nearer], z[nearer], kept[nearer], which[nearer]
    depth[pixel], index[pixel], weights[pixel] = z, which, kept
