"""What a mesh hides from the viewer, and what becomes of it."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.geometry import rotation, topology
from sfumato.geometry.sight import hidden, relaxed
from sfumato.latent import FaceBasis
from sfumato.render import skin

pytestmark = pytest.mark.unit

_SIDE = 5


def _sheet() -> tuple[np.ndarray, np.ndarray]:
    """A sheet of 5 x 5 points, 10 apart, and its triangles, clockwise with y down."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    points = np.stack([10 * x, 10 * y, 0 * x], axis=2).reshape(-1, 3).astype(np.float32)
    at = np.arange(_SIDE * _SIDE).reshape(_SIDE, _SIDE)
    a, b, c, d = (at[i : i - 1 or None, j : j - 1 or None].ravel() for i in (0, 1) for j in (0, 1))
    triangles = np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])
    return points, triangles


def _folded() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sheet with its third column pulled behind the second: points, triangles, what is so."""
    points, triangles = _sheet()
    column = np.arange(len(points)) % _SIDE == 2
    points[column, 0] = 5
    points[column, 2] = 8
    return points, triangles, column


def _flipped_area(points: np.ndarray, triangles: np.ndarray) -> float:
    a, b, c = (points[triangles[:, i], :2] for i in range(3))
    (abx, aby), (acx, acy) = (b - a).T, (c - a).T
    area = (abx * acy - aby * acx) / 2
    return float(-area[area < 0].sum())


def test_a_flat_sheet_hides_nothing() -> None:
    points, triangles = _sheet()
    assert not hidden(points, triangles, 1.0).any()


def test_what_lies_behind_a_fold_is_hidden() -> None:
    points, triangles, column = _folded()
    found = hidden(points, triangles, 1.0)
    # On the rim of a mesh it may go either way.
    rim = np.isin(np.arange(len(points)) // _SIDE, (0, _SIDE - 1))
    assert (found == column)[~rim].all() and not found[~column].any()
    assert not hidden(points, triangles, 20.0).any()


def test_free_points_come_to_rest_in_the_middle_and_the_others_stay() -> None:
    points, triangles, column = _folded()
    flat = relaxed(points, triangles, column)
    assert (flat[~column] == points[~column]).all()
    assert _flipped_area(points, triangles) > 100
    assert _flipped_area(flat, triangles) == 0
    assert (flat[column, 0] > 10).all() and (flat[column, 0] < 30).all()
    assert np.abs(flat[column, 2]).max() < 1e-4


def test_nothing_moves_where_nothing_is_free() -> None:
    points, triangles, _ = _folded()
    assert (relaxed(points, triangles, np.zeros(len(points), bool)) == points).all()


def test_nothing_moves_where_all_is_free() -> None:
    points, triangles, _ = _folded()
    flat = relaxed(points, triangles, np.ones(len(points), bool))
    assert np.isfinite(flat).all()


@pytest.mark.parametrize("yaw", [-0.6, -0.35, 0.35, 0.6])
def test_the_mesh_of_a_turned_face_folds_little(yaw: float) -> None:
    """A portrait in three-quarter view: skin behind nose and lips would show their colours."""
    face = FaceBasis.load().mean @ rotation.matrix(yaw, 0.1, 0).T
    landmarks = (60 * face + [128, 128, 0]).astype(np.float32)
    mesh = skin.build(landmarks, 256, 32)
    folds = _flipped_area(mesh.vertices[: topology.N_FACE], topology.TRIANGLES)
    assert folds < 0.25 * _flipped_area(landmarks, topology.TRIANGLES)
    assert (np.linalg.norm(mesh.folded, axis=1) > 0).sum() < 0.2 * topology.N_FACE


def test_a_frontal_face_stays_as_it_is() -> None:
    face = 60 * FaceBasis.load().mean + np.array([128, 128, 0], np.float32)
    assert not skin.build(face.astype(np.float32), 256, 32).folded.any()
