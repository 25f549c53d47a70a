"""The evaluation of the learned decoder: equal sides are equal, a worse side looks worse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_samples import write_video
from typer.testing import CliRunner

from sfumato import cli
from sfumato.avatar import Avatar
from sfumato.errors import InputError
from sfumato.eval import decoder, decoder_sheets, reenact
from sfumato.eval.perceptual import SIDES, Perceptual, patch
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.media.image import load_image
from sfumato.motionfile import N_LIGHT, N_SKIN
from sfumato.render.decoder import Decoder
from sfumato.render.light import Light
from sfumato.render.renderer import Renderer
from sfumato.render.slide import Slide

pytestmark = pytest.mark.unit

WIDE = 8  # the frame of the sample clip with the widest mouth


@pytest.fixture(scope="module")
def clips(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one short clip: the built-in portrait opens its mouth and nods."""
    folder = tmp_path_factory.mktemp("clips")
    own = replace(MotionFrame.neutral(), expression=avatar.portrait.latents.expression)
    explicit = Renderer(avatar.portrait, FaceBasis.load())
    pictures = []
    for number in range(12):
        shape = own.expression.copy()
        shape[2] += 2.5 * np.exp(-(((number - WIDE) / 2) ** 2))
        pose = np.array([0.01 * number, 0.02 * np.sin(number), 0, 0, 0, 0], np.float32)
        frame = replace(own, expression=shape, pose=pose)
        pictures.append(explicit.render(frame).image)
    (folder / "lady").mkdir()
    write_video(folder / "lady" / "nod.mp4", [i / 25 for i in range(12)], pictures)
    return folder


class Smearing(Renderer):
    """A renderer whose stand-in decoder is a Gaussian of so many pixels."""

    def __init__(self, portrait, basis, slide=None, light=None, sigma=None):
        super().__init__(portrait, basis)
        self._sigma = sigma

    def render(self, frame):
        out = super().render(frame)
        if self._sigma is None:
            return out
        return replace(out, image=cv2.GaussianBlur(out.image, (0, 0), self._sigma))


@pytest.fixture(scope="module")
def smeared(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    report = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(decoder, "Renderer", Smearing)
        calls = []
        found = decoder.evaluate_decoder(
            clips, 3.0, report=report, progress=lambda *at: calls.append(at)
        )
    assert calls == [(decoder.FRAMES, decoder.FRAMES)]
    return found, report


def test_a_blurred_side_is_blurred(smeared: tuple[dict, Path]) -> None:
    found = smeared[0]
    for part in SIDES:
        assert found[f"{part}_sharpness_learned"] < 0.3 * found[f"{part}_sharpness_explicit"]
        assert found[f"{part}_perceptual_ratio"] > 1.1
        assert found[f"{part}_l1_ratio"] > 1
    assert found["flicker_learned"] < found["flicker_explicit"]
    for side in ("", "_explicit", "_real"):
        assert 0 < found[f"landmarks_mouth_error{side}"] < 5
    assert not [key for key in found if "identity" in key]


def test_figures_are_plain_and_complete(smeared: tuple[dict, Path]) -> None:
    found = smeared[0]
    json.dumps(found, allow_nan=False)
    assert found["count"] == 1 and found["skipped"] == {}
    assert list(found["clips"]) == ["lady/nod"]
    clip = found["clips"]["lady/nod"]
    assert clip["frames"] == 11 and clip["real"]["flicker"] == 1.0
    assert found["learned"]["ssim"] < found["explicit"]["ssim"] <= 1
    assert found["mouth_l1_ratio"] == pytest.approx(
        clip["learned"]["mouth_l1"] / clip["explicit"]["mouth_l1"]
    )


def test_sheets_show_four_columns_and_their_parts(smeared: tuple[dict, Path]) -> None:
    sheets = {name: load_image(smeared[1] / f"{name}.png") for name in decoder_sheets.MOMENTS}
    assert all(sheet.shape == (24 + 256, 4 * 256 + 4 * 192, 3) for sheet in sheets.values())
    explicit, learned = (sheets["mouth"][24:, x : x + 256] for x in (256, 512))
    centre = (64, 64, 192, 192)
    assert decoder.detail(learned, centre) < 0.5 * decoder.detail(explicit, centre)


def test_equal_sides_are_equal_and_the_command_prints_it(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "load", lambda **_: None)
    for usual in (Slide, Light):
        monkeypatch.setattr(usual, "load", lambda: None)
    target = tmp_path / "figures.json"
    result = CliRunner().invoke(
        cli.app, ["eval", "decoder", "--data", str(clips), "--json", str(target)]
    )
    assert result.exit_code == 0, result.output
    assert "--identity" in result.stderr
    found = json.loads(target.read_text("utf8"))
    ratios = [value for key, value in found.items() if key.endswith("_ratio")]
    assert len(ratios) == 7 and ratios == [1.0] * 7
    assert found["explicit"] == found["learned"]


def test_the_untold_side_knows_landmarks_alone(clips: Path, studio) -> None:
    slide, light = Slide.load(), Light.load()
    video = clips / "lady" / "nod.mp4"
    clip = reenact.prepare_clip(video, studio.encoder, studio.basis, usual=(slide, light))
    skin = np.linspace(-1, 1, N_SKIN, dtype=np.float32)
    lit = skin[:N_LIGHT]
    clip.motion[5] = replace(clip.motion[5], skin=skin, light=lit)
    explicit = Renderer(clip.portrait, studio.basis)
    learned = Renderer(clip.portrait, studio.basis, slide, light)
    pictures = decoder.draw(clip, (explicit, learned), 5).pictures
    untold, told = (pictures[name][clip.valid] for name in ("untold", "learned"))
    still = replace(clip.motion[5], skin=0 * skin, light=0 * lit)
    bare = learned.render(replace(still, interior=np.zeros(3, np.float32)))
    assert (untold == bare.image[clip.valid]).all() and (untold != told).any()
    assert (explicit.render(still).image == explicit.render(clip.motion[5]).image).all()


def test_moments_of_a_clip(clips: Path, avatar: Avatar, studio) -> None:
    clip = reenact.prepare_clip(clips / "lady" / "nod.mp4", studio.encoder, studio.basis)
    found = decoder_sheets.moments(clip)
    assert abs(found["mouth"] - WIDE) <= 1 and found["yaw"] == 11
    assert clip.real(0).shape == (512, 512, 3) and clip.truth.shape == (12, 478, 3)


def test_clips_without_a_face_are_skipped_by_name(tmp_path: Path) -> None:
    grey = [np.full((96, 96, 3), 120, np.uint8)] * 6
    write_video(tmp_path / "wall.mp4", [i / 25 for i in range(6)], grey)
    with pytest.raises(InputError, match="no usable .* no face in the first 6 frames") as caught:
        decoder.evaluate_decoder(tmp_path, None)
    assert "\n" not in str(caught.value)


def test_parts_that_the_clip_cuts_off_are_left_out(face: np.ndarray, studio) -> None:
    pictures = dict.fromkeys((*decoder.DRAWN, "real"), face)
    boxes = {"mouth": (100, 150, 160, 190), "eye": (80, 90, 180, 120), "face": (60, 40, 200, 220)}
    asked = studio.encoder.track(face, None).landmarks
    valid = np.ones(face.shape[:2], bool)
    valid[160:] = False
    judges = decoder.Judges(studio.encoder, Perceptual(), None)
    found = decoder.judge(decoder.Shot(pictures, asked, boxes), valid, judges, None)
    assert sorted(found["learned"]) == [
        "eye_l1", "eye_perceptual", "eye_sharpness", "frame_l1", "ssim"
    ]  # fmt: skip
    assert found["real"] == {}


@pytest.fixture(scope="module")
def face(avatar: Avatar) -> np.ndarray:
    return avatar.portrait.canvas.image


def test_perceptual_distance_orders_what_eyes_order(face: np.ndarray, avatar: Avatar) -> None:
    own = replace(MotionFrame.neutral(), expression=avatar.portrait.latents.expression)
    boxes = reenact.boxes_of(avatar.renderer.render(own))
    made = [
        face,
        cv2.GaussianBlur(face, (0, 0), 1.0),
        cv2.GaussianBlur(face, (0, 0), 3.0),
        np.roll(face, 1, axis=1),
        np.roll(face, 8, axis=1),
        np.clip(face.astype(int) + 6, 0, 255).astype(np.uint8),
        face[::-1].copy(),
    ]
    for part in SIDES:
        same, soft, blurred, near, far, lighter, turned = Perceptual().distances(
            part, boxes[part], made, face
        )
        assert same == 0
        assert 0 < soft < blurred < turned and 0 < near < far < turned
        assert lighter < blurred and lighter < far


def test_patches_keep_shape_and_stay_inside() -> None:
    ramp = np.zeros((100, 100, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(100), np.arange(100)[:, None]
    part = patch(ramp, (20, 30, 60, 40), (40, 40))
    assert part.shape == (40, 40, 3)
    assert (part[..., 0] == np.arange(20, 60)).all()
    assert (part[..., 1] == np.arange(15, 55)[:, None]).all()
    wide = patch(ramp, (70, 90, 110, 110), (40, 20))
    assert wide[0, 0].tolist() == [60, 80, 0] and wide[-1, -1].tolist() == [99, 99, 0]
    assert patch(ramp, (-50, -50, 150, 150), (64, 64)).shape == (64, 64, 3)


def test_detail_counts_only_what_is_fine() -> None:
    x = np.arange(64)
    slow = np.tile((100 + 20 * np.sin(x / 15))[:, None, None], (1, 64, 3)).astype(np.uint8)
    fine = slow + ((x + x[:, None]) % 2)[..., None].astype(np.uint8) * 10
    box = (8, 8, 56, 56)
    assert decoder.detail(slow, box) < 1 < 20 < decoder.detail(fine, box) < 26
    assert decoder.sharpness(fine, fine, box) == 1.0


def test_flicker_counts_shimmer_and_no_steady_change() -> None:
    box = (0, 0, 8, 8)
    steady, shimmer = decoder.Flicker(), decoder.Flicker()
    for number in range(6):
        steady.add(np.full((8, 8, 3), 10 * number, np.uint8), box)
        shimmer.add(np.full((8, 8, 3), 100 + 5 * (number % 2), np.uint8), box)
    assert steady.mean() == 0
    assert shimmer.mean() == 10


def test_lip_error_is_in_percent_of_the_eyes(face: np.ndarray, avatar: Avatar, studio) -> None:
    found = studio.encoder.track(face, None)
    exact = decoder.lip_error(studio.encoder, face, found.landmarks)
    span = np.linalg.norm(found.landmarks[33] - found.landmarks[263])
    moved = found.landmarks.copy()
    moved[decoder.LIPS, 0] += 0.1 * span
    assert exact is not None and exact < 2
    assert decoder.lip_error(studio.encoder, face, moved) == pytest.approx(10, abs=2)
    assert decoder.lip_error(studio.encoder, np.zeros_like(face), found.landmarks) is None


def test_means_count_every_clip_the_same_and_leave_out_the_unmeasured() -> None:
    def clip(l1: float, learned: float, **more: float) -> dict:
        rows = {"explicit": {"mouth_l1": l1, "flicker": 1.0} | more, "untold": {"mouth_l1": l1 / 2}}
        return rows | {"learned": {"mouth_l1": learned, "flicker": 2.0}, "real": {"flicker": 1.0}}

    found = decoder.summary([clip(2, 1), clip(8, 1, mouth_sharpness=0.5)])
    assert found["mouth_l1_ratio"] == pytest.approx(0.2)
    assert found["mouth_l1_ratio_untold"] == pytest.approx(0.5)
    assert found["mouth_sharpness_explicit"] == 0.5
    assert found["mouth_sharpness_learned"] is None
    assert found["flicker_explicit"] == 1.0 and found["flicker_learned"] == 2.0
