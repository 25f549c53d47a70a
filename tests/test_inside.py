"""The inside of a mouth: the network's light, the picture's own colours, teeth as drawn."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest

from sfumato.avatar import Avatar
from sfumato.geometry import topology
from sfumato.render.inside import Inside, relit
from sfumato.render.mend import Mended, Place

pytestmark = pytest.mark.unit

LUMA = np.array([0.299, 0.587, 0.114])
SIZE = 128


def inside(**changes: Any) -> Inside:
    layer = SimpleNamespace(
        dark=np.float32([30, 20, 12]),
        deep=np.float32([70, 35, 25]),
        tongue=np.float32([150, 85, 70]),
        enamel=np.float32([210, 180, 110]),
    )
    grey = np.full((SIZE, SIZE, 3), 128, np.uint8)
    landmarks = np.full((478, 3), 64, np.float32)
    whole = Inside.of(cast("Any", layer), grey, landmarks, one_tint=False)
    return replace(whole, **{"unknown": 0.0, **changes})


def test_light_stays_and_hue_is_the_pictures() -> None:
    mouth = inside()
    for luma in (5, 40, 90, 150, 179):
        lilac = np.float32([1.0, 0.95, 1.35]) * luma
        seen = mouth.recoloured(lilac[None])[0]
        assert seen @ LUMA == pytest.approx(lilac @ LUMA, abs=1)
        assert seen[2] < seen[1] < seen[0]


def test_red_becomes_flesh_and_grey_becomes_teeth() -> None:
    mouth = inside()
    tongue, tooth = np.float32([[140, 70, 80], [100, 100, 105]])
    seen = mouth.recoloured(np.stack([tongue, tooth]))
    ratio = seen / (seen @ LUMA)[:, None]
    teeth = np.array([210, 180, 110]) / (np.array([210, 180, 110]) @ LUMA)
    np.testing.assert_allclose(ratio[1], teeth, atol=0.05)
    assert ratio[0, 0] > ratio[1, 0] + 0.2


def test_varnish_deepens_shadows_and_leaves_full_light() -> None:
    deep = inside(depth=1.4)
    light, shade = np.float32([[215, 184, 112], [80, 68, 42]])
    seen = deep.recoloured(np.stack([light, shade])) @ LUMA
    assert seen[0] == pytest.approx(light @ LUMA, abs=2)
    assert seen[1] < 0.75 * (shade @ LUMA)


def test_varnish_is_told_by_yellow_cheeks() -> None:
    layer = cast("Any", SimpleNamespace(**{n: np.float32([90, 60, 40]) for n in (
        "dark", "deep", "tongue", "enamel")}))  # fmt: skip
    landmarks = np.full((478, 3), 64, np.float32)
    depths = []
    for b in (10, 31, 50):
        cheeks = np.full((SIZE, SIZE, 3), (65, 12, b), np.float32)
        rgb = np.clip(cv2.cvtColor(cheeks, cv2.COLOR_LAB2RGB) * 255, 0, 255).astype(np.uint8)
        depths.append(Inside.of(layer, rgb, landmarks, one_tint=False).depth)
    assert depths[0] == 1 and depths[2] == pytest.approx(1.4)
    assert depths[0] < depths[1] < depths[2]


def test_only_what_lies_between_the_lips_changes(avatar: Avatar) -> None:
    landmarks = avatar.portrait.canvas.landmarks.copy()
    landmarks[list(topology.INNER_LIPS_LOWER[1:-1]), 1] += 20
    place = Place(slice(100, 220), slice(60, 200), np.eye(2, 3))
    over = np.full((120, 140, 4), 120, np.float32)
    drawn = np.full((120, 140, 4), 90, np.uint8)
    patch = Mended(place, over.copy(), drawn, np.ones((120, 140), np.float32))
    inside().colour(patch, landmarks, 256)
    changed = np.abs(patch.over - over).max(axis=2) > 1
    ring = landmarks[list(topology.INNER_LIPS), :2] - (60, 100)
    mask = np.zeros((120, 140), np.uint8)
    cv2.fillPoly(mask, [np.round(ring).astype(np.int32)], 1)
    assert changed[cv2.erode(mask, np.ones((3, 3))) > 0].all()
    assert not changed[cv2.dilate(mask, np.ones((9, 9))) == 0].any()
    assert np.array_equal(patch.over[..., 3], over[..., 3])
    same = Mended(place, over.copy(), over.astype(np.uint8), patch.share)
    inside().colour(same, landmarks, 256)
    assert np.array_equal(same.over, over)  # what was not painted stays
    far = landmarks + np.float32([900, 0, 0])
    inside().colour(patch, far, 256)  # a mouth beyond the patch is no fault


def test_only_a_closed_mouth_is_unknown(avatar: Avatar) -> None:
    canvas = avatar.portrait.canvas
    landmarks = canvas.landmarks.copy()
    eyes = np.linalg.norm(landmarks[33, :2] - landmarks[263, :2])
    unknown = []
    for opening in (0.0, 0.04, 0.1):
        landmarks[14, :2] = landmarks[13, :2] + (0, opening * eyes)
        found = Inside.of(avatar.portrait.mouth, canvas.image, landmarks, one_tint=False)
        unknown.append(found.unknown)
    assert unknown[0] == 1 and unknown[2] == 0
    assert 0 < unknown[1] < 1


def test_teeth_stay_as_drawn_in_another_light() -> None:
    size = 512
    x = np.arange(120)
    teeth = np.where(x % 12 < 2, 90, 180).astype(np.uint8)  # gaps between teeth
    drawn = np.broadcast_to(teeth[None, :, None], (80, 120, 3)).copy()
    darker = np.full((80, 120, 3), 0.5 * drawn.mean(), np.float32)
    darker[..., 2] += 30  # its colour is not taken, only its light
    mask = np.full((80, 120), 255, np.uint8)
    seen = relit(drawn, darker, mask, size)[30:50, 30:90]
    light = darker[0, 0] @ LUMA
    assert (seen @ LUMA).mean() == pytest.approx(light, rel=0.03)
    assert np.ptp(seen, axis=2).max() < 0.01
    asked = drawn[30:50, 30:90, 0].astype(np.float32)
    assert np.corrcoef(seen[..., 0].ravel(), asked.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("one_tint", [False, True])
def test_a_mean_of_all_mouths_does_not_cover_drawn_teeth(avatar: Avatar, one_tint: bool) -> None:
    landmarks = avatar.portrait.canvas.landmarks.copy()
    landmarks[list(topology.INNER_LIPS_LOWER[1:-1]), 1] += 30
    place = Place(slice(100, 220), slice(60, 200), np.eye(2, 3))
    teeth = np.where(np.arange(140) % 12 < 2, 60, 160).astype(np.uint8)
    drawn = np.broadcast_to(teeth[None, :, None], (120, 140, 4)).copy()
    mean = np.full((120, 140, 4), 100, np.float32)
    patch = Mended(place, mean.copy(), drawn, np.ones((120, 140), np.float32))
    inside(unknown=1.0, one_tint=one_tint).colour(patch, landmarks, 256)
    ring = landmarks[list(topology.INNER_LIPS), :2] - (60, 100)
    mask = np.zeros((120, 140), np.uint8)
    cv2.fillPoly(mask, [np.round(ring).astype(np.int32)], 1)
    within = cv2.erode(mask, np.ones((7, 7))) > 0
    luma = patch.over[..., :3] @ LUMA
    assert np.corrcoef(luma[within], drawn[..., 0][within])[0, 1] > 0.8
    assert luma[within].std() > 0.3 * drawn[..., 0][within].std()
    known = Mended(place, mean.copy(), drawn, patch.share)
    inside(one_tint=one_tint).colour(known, landmarks, 256)
    assert (known.over[..., :3] @ LUMA)[within].std() < 5  # a photo that shows its teeth
