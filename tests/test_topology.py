"""The mesh of the face: a manifold with three holes, and a mirror that is one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sfumato.geometry import topology as topo
from sfumato.latent import FaceBasis

pytestmark = pytest.mark.unit

RINGS = (topo.FACE_OVAL, topo.LEFT_EYE, topo.RIGHT_EYE, topo.INNER_LIPS)


def edge(a: int, b: int) -> tuple[int, int]:
    return (min(a, b), max(a, b))


def edge_counts() -> Counter[tuple[int, int]]:
    sides = [edge(int(t[k]), int(t[(k + 1) % 3])) for t in topo.TRIANGLES for k in range(3)]
    return Counter(sides)


def test_every_point_of_the_skin_is_used() -> None:
    assert set(topo.TRIANGLES.ravel().tolist()) == set(range(topo.N_FACE))


def test_mesh_is_a_disc_with_three_holes() -> None:
    counts = edge_counts()
    assert set(counts.values()) == {1, 2}
    assert topo.N_FACE - len(counts) + len(topo.TRIANGLES) == 1 - 3


def test_border_is_the_rim_the_eyes_and_the_mouth() -> None:
    border = {e for e, n in edge_counts().items() if n == 1}
    rings = {edge(r[k], r[(k + 1) % len(r)]) for r in RINGS for k in range(len(r))}
    assert border == rings


def test_neighbours_have_the_same_orientation() -> None:
    directed = Counter((int(t[k]), int(t[(k + 1) % 3])) for t in topo.TRIANGLES for k in range(3))
    assert set(directed.values()) == {1}


def test_no_triangle_is_flipped_on_the_mean_face() -> None:
    a, b, c = (FaceBasis.load().mean[topo.TRIANGLES[:, k], :2] for k in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    # Closed lips squeeze the triangles of the rim to nothing, and the nostrils face down.
    assert (area < -1e-4).sum() <= 4
    assert np.median(area) > 0


def test_mirror_is_an_involution_that_swaps_sides() -> None:
    everything = np.arange(topo.N_POINTS)
    np.testing.assert_array_equal(topo.MIRROR[topo.MIRROR], everything)
    pairs = (
        (topo.LEFT_EYE_UPPER, topo.RIGHT_EYE_UPPER),
        (topo.LEFT_EYE_LOWER, topo.RIGHT_EYE_LOWER),
        (topo.LEFT_BROW_UPPER, topo.RIGHT_BROW_UPPER),
        (topo.LEFT_BROW_LOWER, topo.RIGHT_BROW_LOWER),
        (topo.INNER_LIPS_UPPER, topo.INNER_LIPS_UPPER[::-1]),
        (topo.OUTER_LIPS_LOWER, topo.OUTER_LIPS_LOWER[::-1]),
    )
    for left, right in pairs:
        assert tuple(topo.MIRROR[list(left)]) == right
    assert topo.MIRROR[topo.LEFT_IRIS[0]] == topo.RIGHT_IRIS[0]


def test_mean_face_is_its_own_mirror() -> None:
    mean = FaceBasis.load().mean
    np.testing.assert_allclose(mean[topo.MIRROR] * [-1, 1, 1], mean, atol=1e-6)
