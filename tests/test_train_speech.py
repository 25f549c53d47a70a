"""Training of the speech encoder: exact windows, loss that falls, export that agrees."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from sfumato.hearing import SpeechEncoder as Encoder  # noqa: E402
from sfumato.latent import N_EXPRESSION, FaceBasis  # noqa: E402
from sfumato.models.speech import SpeechDims, SpeechEncoder  # noqa: E402
from sfumato.speech import HOPS_PER_FRAME, N_MELS  # noqa: E402
from sfumato.train import speech_labels  # noqa: E402
from sfumato.train.augment import disturb, resample  # noqa: E402
from sfumato.train.motion_data import Clip, RowMaker, voice_of  # noqa: E402
from sfumato.train.motion_targets import N_SAID, Measures, earlier  # noqa: E402
from sfumato.train.speech import FRAMES, SpeechLoss, SpeechOptions, Trainer  # noqa: E402
from sfumato.train.speech_export import export_speech  # noqa: E402
from sfumato.train.speech_losses import disagreement  # noqa: E402
from sfumato.train.speech_ridge import fit_ridge  # noqa: E402

pytestmark = pytest.mark.torch


def _small() -> SpeechEncoder:
    torch.manual_seed(0)
    dims = SpeechDims(stem=16, width_fast=16, width=24, fast=(1,), slow=(1, 1, 2), n_teacher=4)
    net = SpeechEncoder(dims)
    for module in net.modules():  # so that folding them is put to the test
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net


def _clip(seed: int) -> Clip:
    """A voice whose first bands say how wide the mouth is open."""
    rng = np.random.default_rng(seed)
    frames = 120
    opening = np.clip(np.sin(np.arange(frames) * rng.uniform(0.5, 0.9)), 0, 1)
    loud = np.repeat(opening, 4)[:, None] * 30 - 60 + rng.normal(0, 1, (4 * frames, N_MELS))
    motion = np.zeros((frames, N_SAID), np.float32)
    motion[:, 2] = opening
    mel = loud.astype(np.float16)
    voice = voice_of(mel.astype(np.float32))
    return Clip(str(seed), str(seed), mel, None, motion, np.ones(frames, bool), voice)


def test_a_stream_computes_what_the_whole_does() -> None:
    net = _small().eval()
    features = torch.randn(1, 40 * HOPS_PER_FRAME, N_MELS)
    size = sum(channels * steps for channels, steps in net.state_shapes)
    state, made = torch.zeros(1, size), []
    with torch.no_grad():
        hidden, motion, voice = net(features)
        for frame in features.split(HOPS_PER_FRAME, dim=1):
            *out, state = net.step(frame, state)
            made.append(out)
    count = hidden.shape[1]
    assert count == 40 - net.dims.past - net.dims.look_ahead
    told = (hidden, motion[..., :N_EXPRESSION], motion[..., N_EXPRESSION:], voice)
    for whole, steps in zip(told, zip(*made, strict=True), strict=True):
        assert torch.allclose(torch.stack(steps, 1)[:, -count:], whole, atol=1e-5)


def test_nothing_beyond_the_look_ahead_is_heard() -> None:
    net = _small().eval()
    features = torch.randn(1, 40 * HOPS_PER_FRAME, N_MELS)
    other = features.clone()
    heard = net.dims.past + 5 + net.dims.look_ahead + 1  # frames that output 5 may depend on
    other[:, heard * HOPS_PER_FRAME :] = 0.0
    with torch.no_grad():
        a, b = net(features)[1], net(other)[1]
    assert torch.equal(a[:, :6], b[:, :6]) and not torch.equal(a[:, 6], b[:, 6])


def test_rows_are_aligned_and_finite() -> None:
    rng = np.random.default_rng(0)
    batch = RowMaker([_clip(i) for i in range(3)], 60, 4, N_SAID, rng).batch(3)
    assert batch["features"].shape == (3, 240, N_MELS)
    assert batch["motion"].shape == (3, 60, N_SAID)
    assert all(np.isfinite(v).all() for v in batch.values())


def test_loss_falls() -> None:
    net = _small()
    options = SpeechOptions(teacher_weight=0.0)
    loss = SpeechLoss(Measures.of(FaceBasis.load()).said(), net.dims, options)
    rows = 40 + net.dims.past + net.dims.look_ahead
    maker = RowMaker([_clip(i) for i in range(4)], rows, 4, N_SAID, np.random.default_rng(0))
    optimiser = torch.optim.AdamW([*net.parameters(), *loss.parameters()], lr=5e-3)
    seen = []
    for _ in range(25):
        parts = loss(net, {k: torch.from_numpy(v) for k, v in maker.batch(4).items()})
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


@pytest.mark.parametrize("train", [None, fit_ridge])
def test_speech_without_a_face_gets_the_expected_one(
    monkeypatch: pytest.MonkeyPatch, train: speech_labels.Train | None
) -> None:
    monkeypatch.setattr(speech_labels, "STEPS", 60)
    monkeypatch.setattr(speech_labels, "ROWS", 4)
    rng = np.random.default_rng(0)
    clips = []
    for i in range(6):
        clip = _clip(i)
        assert clip.motion is not None
        features = np.c_[clip.motion[:, 2], rng.standard_normal((len(clip), 2))]
        face = None if i == 5 else clip.motion
        clips.append(replace(clip, teacher=features.astype(np.float16), motion=face))
    labelled = speech_labels.taught(clips, Measures.of(FaceBasis.load()).said(), train=train)[5]
    truth = _clip(5).motion
    assert labelled.motion is not None and truth is not None
    assert np.corrcoef(labelled.motion[:, 2], truth[:, 2])[0, 1] > 0.8


def test_disagreement_asks_for_the_shape_whatever_the_size() -> None:
    lips = torch.randn(2, 80, 8)
    mask = torch.ones(2, 80)
    mask[:, 50:] = 0.5  # a pause
    piece = torch.zeros(2, 80)
    piece[:, 20:] = 1.0
    sizes = torch.where(piece > 0, 0.5, 3.0)[..., None]
    made = sizes * lips + piece[..., None]
    made[:, 50:] = 9.0
    assert float(disagreement(made, lips, mask, piece)) < 0.02
    assert float(disagreement(made, lips, mask, 0 * piece)) > 0.1
    assert float(disagreement(-lips, lips, mask, piece)) > 1.9
    other = lips.clone()
    other[..., 3] *= -1.0  # the width alone
    assert float(disagreement(other, lips, mask, piece)) == pytest.approx(2 / 3, abs=0.05)
    assert float(disagreement(made, lips, 0 * mask, piece)) == 0.0


def test_a_trained_head_leaves_the_hidden_features_alone(tmp_path: Path) -> None:
    options = SpeechOptions(head=True, minutes=1e-9)
    trainer = Trainer(Measures.of(FaceBasis.load()).said(), options, tmp_path)
    dims, before = trainer.net.dims, deepcopy(trainer.net.state_dict())
    rows = FRAMES + dims.past + dims.look_ahead
    sizes = (rows, dims.n_teacher, N_SAID)
    maker = RowMaker([_clip(i) for i in range(2)], *sizes, np.random.default_rng(0))
    (batch,) = trainer.hear([maker.batch(2)])
    assert batch["hidden"].shape == (2, dims.width, FRAMES)
    trainer.step_on(batch, half=False)
    trainer.check([batch])
    again = Trainer(Measures.of(FaceBasis.load()).said(), options, tmp_path)
    again.resume()
    assert again.step == 1
    whole = Trainer(Measures.of(FaceBasis.load()).said(), SpeechOptions(), tmp_path)
    whole.resume()  # from the weights, with an optimiser of its own
    assert whole.step == 0
    state = trainer.net.state_dict()
    assert torch.equal(whole.net.state_dict()["motion.0.weight"], state["motion.0.weight"])
    changed = {k for k, v in trainer.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(name.startswith("motion.") for name in changed)


def test_motion_moves_by_parts_of_a_frame() -> None:
    ramp = np.arange(20, dtype=np.float32)[:, None]
    moved, good = earlier(ramp, np.ones(20, bool), 0.75)
    assert np.allclose(moved[good], ramp[good] + 0.75)
    assert good.sum() == 19


def test_export_agrees_with_the_network(tmp_path: Path) -> None:
    net = _small().eval()
    export_speech(net, tmp_path / "speech.onnx")
    encoder = Encoder.load(tmp_path / "speech.onnx")
    assert encoder.look_ahead == net.dims.look_ahead
    features = np.random.default_rng(0).standard_normal((30 * HOPS_PER_FRAME, N_MELS), np.float32)
    with torch.no_grad():
        hidden, motion, voice = net(torch.from_numpy(features)[None])
    state = encoder.start()
    for frame in features.reshape(30, HOPS_PER_FRAME, N_MELS):
        state, heard = encoder.hear(state, frame)
    said = np.concatenate([heard.expression, heard.interior])
    for ours, theirs in ((heard.hidden, hidden), (said, motion)):  # weights of 8 bits
        wanted = theirs[0, -1].numpy()
        assert np.abs(ours - wanted).mean() < 0.1 * np.abs(wanted).mean()
    assert heard.voice == pytest.approx(float(voice[0, -1]), abs=0.05)
