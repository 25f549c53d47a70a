"""Skin and light in a video: what was planted is measured; told of it, a drawing comes nearer."""

from __future__ import annotations

from dataclasses import replace

import astronaut_face
import cv2
import numpy as np
import pytest
from astronaut_face import at_rest, moved
from skimage.data import astronaut

from sfumato.geometry import topology
from sfumato.geometry.crop import transform
from sfumato.latent import MotionFrame
from sfumato.motionfile import N_LIGHT, N_SKIN, Motion
from sfumato.render.light import Light
from sfumato.render.portrait import Portrait
from sfumato.render.renderer import Renderer
from sfumato.render.skinmeter import MOST, SkinMeter, calmest
from sfumato.render.slide import Slide

pytestmark = pytest.mark.unit

SLIDE, LIGHT = Slide.load(), Light.load()


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return astronaut_face.portrait(512)


@pytest.fixture(scope="module")
def meter(portrait: Portrait) -> SkinMeter:
    return SkinMeter(portrait, astronaut_face.basis(), SLIDE, LIGHT, astronaut().shape)


def planted(seed: int = 0) -> np.ndarray:
    """Skin as faces have it: the first numbers vary, a standard deviation each."""
    skin = np.zeros(N_SKIN, np.float32)
    skin[:12] = np.random.default_rng(seed).standard_normal(12)
    return skin


def wide_axes(light: Light) -> np.ndarray:
    """Two along which the most light changes far from eyes and lips, whose rims are blurred."""
    mean = np.asarray(astronaut_face.basis().mean)[: topology.N_FACE, :2]
    rims = [*topology.LEFT_EYE, *topology.RIGHT_EYE, *topology.OUTER_LIPS]
    away = np.linalg.norm(mean[:, None] - mean[None, rims], axis=2).min(axis=1) > 0.2
    power = np.square(light.axes[:, : topology.N_FACE])
    share = power[:, away].mean(axis=1) / power.mean(axis=1)
    return np.argsort(-share[:8])[:2]


def video_frame(portrait: Portrait, frame: MotionFrame) -> np.ndarray:
    """A frame of a video as large as the photo, in which the face does that."""
    drawn = Renderer(portrait, astronaut_face.basis(), SLIDE, LIGHT).render(frame).image
    height, width = astronaut().shape[:2]
    back = cv2.invertAffineTransform(portrait.canvas.matrix)
    return cv2.warpAffine(drawn, back, (width, height), borderMode=cv2.BORDER_REPLICATE)


def test_the_photo_itself_has_nothing_to_tell(meter: SkinMeter, portrait: Portrait) -> None:
    for numbers in meter.measure(astronaut(), at_rest(portrait)):
        assert np.abs(numbers).max() < 0.3


@pytest.mark.parametrize("yaw", [0, 8])
def test_planted_skin_is_measured(meter: SkinMeter, portrait: Portrait, yaw: float) -> None:
    frame = moved(portrait, yaw=yaw, lips=1.0)
    skin = planted()
    found, _ = meter.measure(video_frame(portrait, replace(frame, skin=skin)), frame)
    assert found.shape == (N_SKIN,) and found.dtype == np.float32
    # Axes that look alike share what they show; together they draw what was planted.
    asked, drawn = (np.tensordot(s, SLIDE.axes, axes=1)[:468].ravel() for s in (skin, found))
    assert np.corrcoef(asked, drawn)[0, 1] > 0.9
    assert np.abs(found).max() <= MOST


@pytest.mark.parametrize("yaw", [0, 8])
def test_planted_light_is_measured(meter: SkinMeter, portrait: Portrait, yaw: float) -> None:
    frame = moved(portrait, yaw=yaw, lips=1.0)
    light = np.zeros(N_LIGHT, np.float32)
    light[wide_axes(LIGHT)] = [1.5, -1.5]
    lit = replace(frame, light=light, skin=planted(4))
    _, found = meter.measure(video_frame(portrait, lit), frame)
    assert found.shape == (N_LIGHT,) and found.dtype == np.float32
    asked, drawn = ((s @ LIGHT.axes)[:468] for s in (light, found))
    assert np.corrcoef(asked, drawn)[0, 1] > 0.9
    assert 0.7 < drawn.std() / asked.std() < 1.1


def test_told_of_its_skin_a_drawing_comes_nearer(meter: SkinMeter, portrait: Portrait) -> None:
    frame = moved(portrait, yaw=-6, lips=2.0)
    picture = video_frame(portrait, replace(frame, skin=planted(1)))
    told = replace(frame, skin=meter.measure(picture, frame)[0])
    untold, mended = (
        np.abs(video_frame(portrait, f).astype(int) - picture).mean() for f in (frame, told)
    )
    assert mended < 0.6 * untold


def test_frames_without_a_face_tell_nothing(meter: SkinMeter, portrait: Portrait) -> None:
    frame = moved(portrait, lips=1.0)
    person, basis = portrait.latents, astronaut_face.basis()
    back = cv2.invertAffineTransform(portrait.canvas.matrix)
    tracks = np.repeat(transform(back, basis.drive(person, frame))[None], 6, axis=0)
    tracks[4] = np.nan
    picture = video_frame(portrait, replace(frame, skin=planted(2)))
    found, light = meter.follow([picture] * 6, tracks, threads=2)
    again = meter.follow(iter([picture] * 6), tracks)
    np.testing.assert_array_equal(found, again[0])
    np.testing.assert_array_equal(light, again[1])
    assert found.shape == (6, N_SKIN) and not found[4].any()
    assert light.shape == (6, N_LIGHT) and not light[4].any()
    asked, drawn = (
        np.tensordot(s, SLIDE.axes, axes=1)[:468].ravel() for s in (planted(2), found[0])
    )
    assert np.corrcoef(asked, drawn)[0, 1] > 0.8


def test_the_calmest_frame_was_seen() -> None:
    motion = replace(Motion.zeros(4), expression=np.eye(4, 40, dtype=np.float32)[::-1] * 2)
    pose = np.zeros((4, 6), np.float32)
    pose[0, 0], pose[1, 0] = 0.3, 0.01
    motion = replace(motion, pose=pose)
    assert calmest(motion, np.ones(4, bool)) in (2, 3)
    assert calmest(motion, np.array([True, True, False, False])) == 1
