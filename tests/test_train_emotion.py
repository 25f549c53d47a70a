"""Learning and measuring emotions: closed lips, even faces, what data may say, irises found."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sfumato.emotions import EMOTIONS
from sfumato.eval.controls import correlation
from sfumato.eval.iris import gaze_between, iris_places
from sfumato.eval.motion_lips import lip_series
from sfumato.geometry import topology as topo
from sfumato.latent import N_EXPRESSION, FaceBasis
from sfumato.train.emotion import LEARNED, Rows, blend, free_directions, regress, shut_lids
from sfumato.train.emotion_units import lip_gaps, recipes

pytestmark = pytest.mark.unit

BASIS = FaceBasis.load()


def test_recipes_move_what_they_name_and_no_lip() -> None:
    known = recipes(BASIS)
    assert set(known) == set(EMOTIONS[1:])
    moves = {n: np.tensordot(v, BASIS.expression, axes=1) for n, v in known.items()}
    assert moves["happy"][61, 1] < -0.03 and moves["sad"][61, 1] > 0.02  # corners up, down
    assert moves["surprised"][107, 1] < -0.05 and moves["angry"][107, 1] > 0.04  # brows
    for vector in known.values():
        assert np.abs(vector @ lip_gaps(BASIS)).max() < 0.002
    one_sided = moves["contemptuous"][[61, 291], 1]
    assert one_sided[1] < one_sided[0] - 0.02


def test_free_directions_open_no_lip_and_are_even() -> None:
    free = free_directions(BASIS)
    np.testing.assert_allclose(free.T @ free, np.eye(free.shape[1]), atol=1e-9)
    gaps = np.abs(free.T @ lip_gaps(BASIS))
    assert gaps.max() < 1e-3
    moves = np.tensordot(free[:, 0], BASIS.expression, axes=1)[: topo.N_FACE]
    image = moves[list(topo.MIRROR[: topo.N_FACE])] * [-1, 1, 1]
    assert np.abs(moves - image).max() < 0.1 * np.abs(moves).max()


def _rows(truth: np.ndarray, count: int, noise: float) -> Rows:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.full(len(LEARNED) + 1, 0.3), count)
    expression = scores[:, :-1] @ truth + noise * rng.standard_normal((count, N_EXPRESSION))
    return Rows(expression, scores[:, :-1], scores[:, -1], [str(n) for n in range(count)])


def test_the_regression_finds_what_goes_with_scores() -> None:
    truth = np.random.default_rng(1).standard_normal((len(LEARNED), N_EXPRESSION))
    found, seen = regress([_rows(truth, 4000, 0.5)])
    assert np.abs(found - truth).mean() < 0.1 and (seen > 50).all()


def test_data_count_where_they_agree_and_keep_the_lips() -> None:
    known = recipes(BASIS)
    prior = np.array([known[name] for name in LEARNED])
    truth = prior.copy()
    truth[1] *= -1  # a teacher that takes one emotion for its opposite
    free = free_directions(BASIS)
    mean, share = blend([_rows(truth, 4000, 0.5)], prior, free, BASIS)
    assert share[0] > 0.3 and share[1] == 0
    assert np.abs(mean @ lip_gaps(BASIS)).max() < 0.003


def test_shut_lids_undo_what_the_rest_does() -> None:
    table = np.zeros((len(EMOTIONS), N_EXPRESSION))
    table[1, 5] = 4.0
    shut = shut_lids(BASIS, table)
    assert not shut[0].any() and shut[1].any()


def _drawn_eye(turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Two dark discs in white eyes, ``turn`` outer-eye distances to the right."""
    points = np.zeros((478, 3))
    image = np.full((240, 400, 3), 180, np.uint8)
    for ring, a, b, x in ((topo.LEFT_EYE, 33, 133, 130), (topo.RIGHT_EYE, 263, 362, 270)):
        angle = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
        sign = -1 if a == 33 else 1
        points[list(ring), 0] = x + sign * 30 * np.cos(angle)
        points[list(ring), 1] = 120 - 16 * np.sin(angle)
        points[a, :2], points[b, :2] = (x + sign * 30, 120), (x - sign * 30, 120)
        opening = np.rint(points[list(ring), :2]).astype(np.int32)
        eye = image.copy()
        cv2.fillPoly(eye, [opening], (240, 240, 240))
        inside = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(inside, [opening], 1)
        disc = eye.copy()
        cv2.circle(disc, (round(x + turn * 200), 120), 13, (50, 40, 30), -1)
        image = np.where(inside[..., None] > 0, disc, image)
    return image, points


def test_irises_are_found_in_the_picture() -> None:
    rest, points = _drawn_eye(0.0)
    home = iris_places(rest, points)
    for degrees in (-15, 10, 20):
        image, _ = _drawn_eye(0.13 * np.sin(np.radians(degrees)))
        yaw, pitch = np.degrees(gaze_between(iris_places(image, points), home, points))
        assert abs(yaw - degrees) < 2.5 and abs(pitch) < 2


def test_openings_and_their_correlation() -> None:
    tracks = np.zeros((5, 478, 3))
    tracks[:, 263, 0], tracks[:, 14, 1] = 100, [0, 5, 10, 5, 0]
    tracks[3] = np.nan
    opening = lip_series(tracks)[0]
    np.testing.assert_allclose(opening, [0, 0.05, 0.1, 0.05, 0])
    assert correlation(opening, 3 * opening + 1) == pytest.approx(1)
    assert correlation(opening, np.ones(5)) == 0
