"""What is seen between the lips, as numbers."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sfumato.geometry import topology as topo
from sfumato.interior import MOST, UNSEEN, InteriorAxes, Look, look
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.motionfile import N_INTERIOR

pytestmark = pytest.mark.unit

SIDE = 256


def _open_face(opening: float = 3.0) -> np.ndarray:
    """Landmarks (478, 3) of the mean face with open lips."""
    shape = FaceBasis.load().mean + opening * FaceBasis.load().expression[2]
    return np.asarray(shape * 110 + (SIDE / 2, SIDE / 2, 0), np.float32)


def _painted(face: np.ndarray, upper: int, lower: int) -> np.ndarray:
    """Skin with a mouth whose upper and lower halves have a light each."""
    image = np.full((SIDE, SIDE, 3), 150, np.uint8)
    rim = np.rint(face[list(topo.INNER_LIPS), :2]).astype(np.int32)
    half = float(face[[13, 14], 1].mean())
    for light, rows in ((upper, slice(0, round(half))), (lower, slice(round(half), SIDE))):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillPoly(mask, [rim], 255)
        mask[: rows.start] = 0
        mask[rows.stop :] = 0
        image[mask > 0] = light
    return image


def _codes(mouths: list[tuple[int, int]]) -> np.ndarray:
    face = _open_face()
    looks = [look(_painted(face, *mouth), face) for mouth in mouths for _ in range(6)]
    return InteriorAxes.load().codes(looks).reshape(len(mouths), 6, N_INTERIOR)[:, 3]


def test_the_first_number_is_light_and_the_second_upper_teeth() -> None:
    dark, light = _codes([(20, 20), (190, 190)])
    assert light[0] > dark[0] + 1
    teeth, tongue = _codes([(190, 20), (20, 190)])
    assert teeth[1] > tongue[1] + 1
    assert np.abs(_codes([(90, 90), (90, 90)])).max() < 1e-3


def test_light_and_size_of_the_picture_say_nothing() -> None:
    face = _open_face()
    image = _painted(face, 180, 30)
    usual = look(image, face)
    dim = look((image * 0.6).astype(np.uint8), face)
    large = look(cv2.resize(image, None, fx=2, fy=2), 2 * face + (0.5, 0.5, 0))
    np.testing.assert_allclose(dim.light, usual.light, atol=0.15)
    np.testing.assert_allclose(large.light, usual.light, atol=0.35)
    np.testing.assert_allclose(large.shape, usual.shape, atol=0.02)


def test_closed_and_unseen_mouths_say_nothing() -> None:
    face = _open_face(0.0)
    closed = look(np.full((SIDE, SIDE, 3), 150, np.uint8), face)
    unseen = look(np.zeros((SIDE, SIDE, 3), np.uint8), np.full((478, 3), np.nan))
    assert closed.share == unseen.share == 0.0
    assert not InteriorAxes.load().codes([closed, unseen, UNSEEN]).any()


def test_a_mouth_at_the_edge_of_the_picture_is_looked_at() -> None:
    face = _open_face() + np.array([0, SIDE / 2, 0], np.float32)  # the lips lie below the picture
    assert np.isfinite(look(np.full((SIDE, SIDE, 3), 150, np.uint8), face).light).all()


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_codes_are_bounded_and_fade_where_lips_close(share: float) -> None:
    rng = np.random.default_rng(0)
    cells = UNSEEN.light.shape
    looks = [Look(rng.normal(0, 5, cells), np.ones(5, np.float32), share) for _ in range(20)]
    codes = InteriorAxes.load().codes(looks)
    # Smoothing keeps peaks and overshoots by less than half.
    assert np.abs(codes).max() <= 1.5 * MOST * share


def test_a_frame_without_is_usual() -> None:
    frame = MotionFrame.neutral()
    assert not frame.interior.any() and frame.interior.shape == (N_INTERIOR,)
    told = replace(frame, interior=np.ones(N_INTERIOR, np.float32))
    assert told.interior.any()
