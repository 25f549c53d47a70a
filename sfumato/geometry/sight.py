"""Which vertices of a mesh the viewer sees, and where the others may go."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import warp

Floats = NDArray[np.float32]

_GRID = 512  # pixels across a mesh, to see what lies before what
_LEAST_HOLD = 1e-7  # of the stiffest edge


def hidden(vertices: Floats, triangles: NDArray[np.integer], least: float) -> NDArray[np.bool_]:
    """Which vertices (V,) of folds lie behind the mesh itself, or show their inside alone.

    Args:
        vertices: (V, 3), y down and z away from the viewer.
        triangles: (T, 3) vertex indices, clockwise for a viewer who sees the outside of each.
        least: how far behind, in units of the vertices.
    """
    corner = vertices[:, :2].min(axis=0)
    scale = (_GRID - 1) / float((vertices[:, :2] - corner).max())
    points = ((vertices[:, :2] - corner) * scale).astype(np.float32)
    depth = np.ascontiguousarray(vertices[:, 2], np.float32)
    # The second value tells where there is a triangle at all.
    values = np.column_stack([depth, np.ones_like(depth)])
    seen = warp.rasterise(points, depth, values, triangles, (_GRID, _GRID))
    columns, rows = np.round(points).astype(np.intp).T
    nearest, covered = seen[rows, columns].T
    around = np.bincount(triangles.ravel(), minlength=len(vertices))
    away = _turned_away(points, triangles)
    inside = np.bincount(triangles[away].ravel(), minlength=len(vertices))
    behind = (inside > 0) & (covered > 0.5) & (depth - nearest > least)
    result: NDArray[np.bool_] = behind | ((inside == around) & (around > 0))
    return result


def relaxed(vertices: Floats, triangles: NDArray[np.integer], free: NDArray[np.bool_]) -> Floats:
    """Vertices (V, 3) with the free ones at rest between their neighbours, as on springs.

    Every edge pulls with the inverse of its length (graph Laplacian); a mesh whose folds are free
    is drawn flat by what is not.

    Args:
        vertices: (V, 3).
        triangles: (T, 3) vertex indices.
        free: (V,).
    """
    result = vertices.astype(np.float32)
    if not free.any():
        return result
    stiffness = np.zeros((len(vertices),) * 2, np.float64)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        one, two = triangles[:, i], triangles[:, j]
        length = np.linalg.norm(vertices[one] - vertices[two], axis=1)
        pull = 1 / np.maximum(length, 1e-3 * float(length.mean()))
        stiffness[one, two] = stiffness[two, one] = pull
    # A little at its own place: where nothing is held, nothing moves.
    own = _LEAST_HOLD * float(stiffness.max())
    pulls = np.diag(stiffness.sum(axis=1) + own) - stiffness
    held = own * vertices[free] - pulls[np.ix_(free, ~free)] @ vertices[~free]
    result[free] = np.linalg.solve(pulls[np.ix_(free, free)], held)
    return result


def _turned_away(points: Floats, triangles: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which triangles (T,) show the viewer their inside."""
    first, second, third = (points[triangles[:, i]] for i in range(3))
    (ax, ay), (bx, by) = (second - first).T, (third - first).T
    result: NDArray[np.bool_] = ax * by < ay * bx
    return result
