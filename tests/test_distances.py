"""Distances on a face: what they are on a known one, and how they go with size and turns."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.geometry import rotation, topology
from sfumato.geometry.distances import apart, eye_distance, lid_openings, lip_opening, lip_width
from sfumato.latent import EXPRESSION_NAMES, FaceBasis

pytestmark = pytest.mark.unit


def test_the_mean_face_has_the_face_unit_and_closed_lips() -> None:
    mean = FaceBasis.load().mean
    assert eye_distance(mean) == pytest.approx(1, abs=0.01)
    assert lip_opening(mean) < 0.01 < 0.3 < lip_width(mean) < 0.8
    assert (lid_openings(mean) > 0.08).all()


def test_all_grow_with_the_face_and_go_through_time() -> None:
    mean = FaceBasis.load().mean
    moving = np.stack([mean, 2 * mean, 3 * mean])[None]
    for measure in (eye_distance, lip_opening, lip_width, lid_openings):
        once = measure(mean)
        expected = np.stack([once, 2 * once, 3 * once])[None]
        np.testing.assert_allclose(measure(moving), expected, rtol=1e-12)


def test_a_turn_shortens_the_picture_and_not_space() -> None:
    mean = FaceBasis.load().mean
    turned = mean @ rotation.matrix(0.6, 0.0, 0.0).T
    assert eye_distance(turned) == pytest.approx(float(eye_distance(mean)))
    assert eye_distance(turned[:, :2]) < 0.9 * eye_distance(mean[:, :2])


def test_left_is_the_left_of_the_image() -> None:
    basis = FaceBasis.load()
    one = basis.mean + 3 * basis.expression[EXPRESSION_NAMES.index("blink_left")]
    left, right = lid_openings(one) / lid_openings(basis.mean)
    assert left < 0.6 and right > 0.8
    assert basis.mean[topology.LID_MIDDLES[0][0], 0] < 0 < basis.mean[topology.LID_MIDDLES[1][0], 0]


def test_apart_is_symmetric() -> None:
    mean = FaceBasis.load().mean
    assert apart(mean, (61, 291)) == apart(mean, (291, 61)) > 0
