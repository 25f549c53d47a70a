"""Training of the motion network: exact windows, loss that falls, export that agrees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from sfumato.latent import N_EXPRESSION, FaceBasis  # noqa: E402
from sfumato.life import LifeStats  # noqa: E402
from sfumato.models.motion import MotionDims, MotionNet  # noqa: E402
from sfumato.motion import MotionGenerator  # noqa: E402
from sfumato.speech import N_MELS  # noqa: E402
from sfumato.train.augment import disturb, resample  # noqa: E402
from sfumato.train.motion import MotionLoss, whole_clip  # noqa: E402
from sfumato.train.motion_data import Clip, RowMaker, voice_of  # noqa: E402
from sfumato.train.motion_export import CLOSED, LEAST, Stretch, calibrate, export  # noqa: E402
from sfumato.train.motion_labels import taught  # noqa: E402
from sfumato.train.motion_targets import Measures, earlier  # noqa: E402

pytestmark = pytest.mark.torch


def _small() -> MotionNet:
    torch.manual_seed(0)
    return MotionNet(MotionDims(N_EXPRESSION, width=24, stem=16, dilations=(1, 2)))


def _clip(seed: int) -> Clip:
    """A voice whose first bands say how wide the mouth is open."""
    rng = np.random.default_rng(seed)
    frames = 120
    opening = np.clip(np.sin(np.arange(frames) * rng.uniform(0.5, 0.9)), 0, 1)
    loud = np.repeat(opening, 4)[:, None] * 30 - 60 + rng.normal(0, 1, (4 * frames, N_MELS))
    motion = np.zeros((frames, N_EXPRESSION), np.float32)
    motion[:, 2] = opening
    mel = loud.astype(np.float16)
    voice = voice_of(mel.astype(np.float32))
    return Clip(str(seed), str(seed), mel, None, motion, np.ones(frames, bool), voice)


def test_long_pieces_and_single_windows_agree() -> None:
    net = _small().eval()
    mel = np.random.default_rng(0).uniform(-80, -20, (80, N_MELS)).astype(np.float32)
    features = torch.from_numpy(whole_clip(mel, net.dims))[None]
    with torch.no_grad():
        whole = net(features)[0][0]
        one = net(features[:, 12 : 12 + net.dims.window_hops])[0][0]
    assert len(whole) == 20
    assert torch.allclose(whole[3], one[0], atol=1e-5)


def test_rows_are_aligned_and_finite() -> None:
    batch = RowMaker([_clip(i) for i in range(3)], 60, 4, N_EXPRESSION, 0).batch(3)
    assert batch["features"].shape == (3, 240, N_MELS)
    assert batch["motion"].shape == (3, 60, N_EXPRESSION)
    assert all(np.isfinite(v).all() for v in batch.values())


def test_loss_falls() -> None:
    net = _small()
    loss = MotionLoss(Measures.of(FaceBasis.load()), net.dims, 0.0)
    maker = RowMaker([_clip(i) for i in range(4)], 40, net.dims.n_teacher, N_EXPRESSION, 0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    seen = []
    for _ in range(25):
        parts = loss(net, maker.batch(4))
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
        seen.append(float(parts["face"].detach()))
    assert np.mean(seen[-5:]) < 0.8 * np.mean(seen[:5])


def test_augmentation_keeps_shape_and_timing() -> None:
    rng = np.random.default_rng(0)
    mel = np.asarray(_clip(0).mel, np.float32)
    other = disturb(mel, None, rng)
    assert other.shape == mel.shape and np.isfinite(other).all()
    assert np.corrcoef(other.mean(axis=1), mel.mean(axis=1))[0, 1] > 0.5
    assert len(resample(mel, 100)) == 100


def test_stretched_lips_open_and_close_as_real_ones() -> None:
    rng = np.random.default_rng(0)
    row = np.array([0.01, 0.0, 0.05, 0.02])
    real = np.maximum(rng.standard_normal((2000, 4)), -0.2)
    timid = 0.4 * real + 0.5
    stretch = calibrate(timid, real, row, 2)
    made = stretch(torch.from_numpy(timid.astype(np.float32))).numpy() @ row
    people = real @ row
    assert (made < CLOSED).mean() == pytest.approx((people < CLOSED).mean(), abs=0.12)
    assert np.quantile(made, 0.95) == pytest.approx(np.quantile(people, 0.95), rel=0.1)
    assert made.min() >= LEAST - 1e-6


def test_speech_without_a_face_gets_the_expected_one() -> None:
    rng = np.random.default_rng(0)
    clips = []
    for i in range(6):
        clip = _clip(i)
        assert clip.motion is not None
        features = np.c_[clip.motion[:, 2], rng.standard_normal((len(clip), 2))]
        face = None if i == 5 else clip.motion
        clips.append(replace(clip, teacher=features.astype(np.float16), motion=face))
    labelled = taught(clips)[5]
    truth = _clip(5).motion
    assert labelled.motion is not None and truth is not None
    assert np.corrcoef(labelled.motion[:, 2], truth[:, 2])[0, 1] > 0.95


def test_motion_moves_by_parts_of_a_frame() -> None:
    ramp = np.arange(20, dtype=np.float32)[:, None]
    moved, good = earlier(ramp, np.ones(20, bool), 0.75)
    assert np.allclose(moved[good], ramp[good] + 0.75)
    assert good.sum() == 19


def test_export_agrees_with_the_network(tmp_path: Path) -> None:
    net = _small().eval()
    zeros = np.zeros(N_EXPRESSION, np.float32)
    row = tuple(zeros.tolist())
    stats = LifeStats(tuple(map(tuple, np.eye(6).tolist())), row, row, row)
    path = tmp_path / "motion.onnx"
    export(net, Stretch(zeros + 2, zeros + 0.05, 1.0, 0.0, 2), stats, path)
    generator = MotionGenerator.load(path)
    assert generator.stats.stiffness == stats.stiffness
    window = np.random.default_rng(0).standard_normal((net.dims.window_hops, N_MELS), np.float32)
    motion, voice = generator.face(window)
    with torch.no_grad():
        expected, heard = net(torch.from_numpy(window)[None])
        expected = Stretch(zeros + 2, zeros + 0.05, 1.0, 0.0, 2)(expected)
    np.testing.assert_allclose(motion, expected[0, 0].numpy(), atol=5e-3)
    assert voice == pytest.approx(float(heard), abs=1e-2)
