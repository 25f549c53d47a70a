"""The rasteriser against a loop over triangles and pixels, and its promise of no gaps."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.geometry import warp

pytestmark = pytest.mark.unit


def _reference(points, depth, values, triangles, shape):
    """Barycentric coordinates at every pixel of every triangle, far triangles first."""
    field, covered = np.zeros((*shape, values.shape[1])), np.zeros(shape, bool)
    for corner in triangles[np.argsort(-depth[triangles].sum(axis=1), kind="stable")]:
        a, b, c = points[corner].astype(float)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        for y in range(shape[0]):
            for x in range(shape[1]):
                u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                if min(u, v, 1 - u - v) >= 0:
                    field[y, x] = np.array([u, v, 1 - u - v]) @ values[corner]
                    covered[y, x] = True
    return field, covered


def _grid_mesh(rng, cells, low, high, shake):
    """A square sheet of triangles whose inner vertices are shaken."""
    line = np.linspace(low, high, cells + 1)
    points = np.stack(np.meshgrid(line, line), axis=2)
    points[1:-1, 1:-1] += rng.uniform(-shake, shake, points[1:-1, 1:-1].shape)
    index = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    corners = [np.stack(t, axis=2).reshape(-1, 3) for t in ((a, b, c), (b, d, c))]
    return points.reshape(-1, 2).astype(np.float32), np.concatenate(corners).astype(np.int32)


def test_agrees_with_a_loop_over_triangles() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform(-4, 28, (30, 2)).astype(np.float32)
    triangles = np.stack([rng.permutation(30)[:3] for _ in range(12)]).astype(np.int32)
    depth = rng.normal(size=30).astype(np.float32)
    values = rng.normal(size=(30, 2)).astype(np.float32)
    field = warp.rasterise(points, depth, values, triangles, (24, 20))
    covered = (field != 0).any(axis=2)
    expected, inside = _reference(points, depth, values, triangles, (24, 20))
    assert (covered == inside).mean() > 0.995  # centres that lie on an edge may go either way
    same = covered & inside
    close = np.abs(field - expected).max(axis=2)[same] < 1e-3
    assert close.mean() > 0.995


@pytest.mark.parametrize("seed", range(5))
def test_a_closed_sheet_has_no_gap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, triangles = _grid_mesh(rng, 12, -3, 67, 2.5)
    points = np.round(points * 2) / 2  # many vertices exactly on pixel centres
    field = warp.rasterise(points, np.zeros(len(points)), points, triangles, (64, 64))
    y, x = np.indices((64, 64))
    np.testing.assert_allclose(field, np.stack([x, y], axis=2), atol=1e-3)


def test_the_nearer_triangle_covers_the_farther() -> None:
    square = np.array([[0, 0], [16, 0], [0, 16]] * 2, np.float32)
    depth = np.array([1, 1, 1, 0, 0, 0], np.float32)
    values = np.array([[1, 1]] * 3 + [[2, 2]] * 3, np.float32)
    for order in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        field = warp.rasterise(square, depth, values, np.array(order, np.int32), (8, 8))
        assert (field == 2).all()


def test_outside_of_every_triangle_is_zero() -> None:
    points = np.array([[2, 2], [5, 2], [2, 5]], np.float32)
    one = np.ones((3, 2), np.float32)
    triangles = np.array([[0, 1, 2], [1, 1, 2]], np.int32)  # one of them degenerate
    field = warp.rasterise(points, one[:, 0], one, triangles, (8, 8))
    assert (field[3, 3] == 1).all()
    assert (field[6:] == 0).all() and (field[:, 6:] == 0).all()


def test_a_sliver_bends_nothing_beyond_its_corners() -> None:
    """Lips that close leave triangles of no width; their slopes must not blow up."""
    points = np.array([[1, 1], [9, 5.0001], [17, 9], [9, 5]], np.float32)
    values = np.array([[0, 0], [50, 1], [1, 50], [2, 2]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 1, 3], [3, 1, 2], [0, 2, 2]], np.int32)
    field = warp.rasterise(points, np.zeros(4), values, triangles, (12, 20))
    assert np.isfinite(field).all()
    assert field.min() >= -0.01 and field.max() <= 50.01
