"""Training of the sync expert: exact windows, loss that falls, speech that gets a face, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_wav

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from sfumato import weights  # noqa: E402
from sfumato.avatar import load  # noqa: E402
from sfumato.corpus import ClipInfo  # noqa: E402
from sfumato.errors import InputError  # noqa: E402
from sfumato.eval import sync as evaluation  # noqa: E402
from sfumato.latent import Motion  # noqa: E402
from sfumato.media.audio import AudioReader  # noqa: E402
from sfumato.models.sync import MARGIN, SyncDims, SyncNet  # noqa: E402
from sfumato.speech import N_MELS  # noqa: E402
from sfumato.timebase import SAMPLE_RATE  # noqa: E402
from sfumato.train import sync, sync_data, sync_export, sync_teacher  # noqa: E402

pytestmark = pytest.mark.torch

DIMS = SyncDims(6, sound=32, motion=32, embedding=16, drop=0.0)


def clip(seed: int, frames: int = 90, person: str = "") -> sync_data.Clip:
    """Motion that follows six bands of the sound."""
    rng = np.random.default_rng(seed)
    slow = np.stack(
        [np.convolve(r, np.hanning(7), "same") for r in rng.standard_normal((6, frames))]
    )
    motion = slow.T.astype(np.float32)
    mel = np.repeat(np.repeat(motion, 10, axis=1), 4, axis=0) * 8.0 - 30.0
    mel = np.pad(mel, ((0, 0), (0, N_MELS - 60)), constant_values=-30.0)
    return sync_data.Clip(f"c/{seed}", person or f"p{seed}", motion, mel.astype(np.float16))


def test_answers_are_centred_and_see_as_far_as_said() -> None:
    torch.manual_seed(0)
    net = SyncNet(DIMS).eval()
    assert MARGIN == evaluation.MARGIN
    motion = torch.randn(1, 50, 6, requires_grad=True)
    sound = torch.randn(1, 200, N_MELS, requires_grad=True)
    seen, said = net(motion, sound)
    assert seen.shape == said.shape == (1, 50 - 2 * MARGIN, 16)
    weights = torch.randn(16)
    ((seen[0, 10] + said[0, 10]) * weights).sum().backward()
    frames = motion.grad[0].abs().sum(1).nonzero().flatten()
    hops = sound.grad[0].abs().sum(1).nonzero().flatten()
    assert (int(frames.min()), int(frames.max())) == (10, 10 + 2 * MARGIN)
    # Both are centred on frame 18, whose hops are 72 to 75.
    assert (int(hops.min()) + int(hops.max())) / 2 == 73.5


def test_loss_falls_and_lags_are_found() -> None:
    torch.manual_seed(0)
    net, loss = SyncNet(DIMS), sync.SyncLoss()
    rows, rng = sync_data.Rows([clip(i) for i in range(6)], 48), np.random.default_rng(0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=4e-3)
    totals = []
    for _ in range(40):
        parts = loss(net, rows.batch(8, rng))
        optimiser.zero_grad()
        parts["total"].backward()
        optimiser.step()
        totals.append(float(parts["total"].detach()))
    assert np.mean(totals[-5:]) < 0.85 * np.mean(totals[:5])
    net.eval()
    with torch.no_grad():
        other = loss(net, sync_data.Rows([clip(i) for i in range(20, 24)], 48).batch(16, rng))
    assert float(other["right"]) > 0.5


def test_rows_are_in_step() -> None:
    rows, rng = sync_data.Rows([clip(0)], 60), np.random.default_rng(0)
    batch = rows.batch(12, rng)
    assert batch["motion"].shape == (12, 60, 6) and batch["sound"].shape == (12, 240, N_MELS)
    bands = batch["sound"][:, 1::4, 24:30].mean(axis=2)
    agree = [np.corrcoef(b, m[:, 2])[0, 1] for b, m in zip(bands, batch["motion"], strict=True)]
    assert np.mean(agree) > 0.4


def test_only_real_people_of_the_training_teach(tmp_path: Path) -> None:
    good = ClipInfo("a", tmp_path)
    bad = [
        ClipInfo("b", tmp_path, split="test"),
        ClipInfo("c", tmp_path, kind="generated"),
        ClipInfo("d", tmp_path, synced=False),
        ClipInfo("e", tmp_path, source="grid_drpato"),
        ClipInfo("f", tmp_path, trusted=False),
    ]
    assert sync_data.usable(good) and not any(map(sync_data.usable, bad))


def test_speech_without_a_face_gets_the_expected_one(tmp_path: Path) -> None:
    clips = [clip(i, person=f"p{i % 3}") for i in range(6)]
    spoken = [*clips, clip(9), clip(10)]
    for one in spoken:
        noise = np.random.default_rng(int(one.name[2:])).standard_normal((len(one), 4))
        for kind, rows in (("mel", one.mel), ("moon", np.c_[one.motion, noise])):
            path = tmp_path / kind / f"{one.name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, rows.astype(np.float16))
    listed = {one.name for one in clips} | {"c/10"}  # held out: in the index, but no pupil
    found, strays = sync_teacher.expected(clips, tmp_path, listed)
    names = {one.name: one for one in found}
    assert "c/10" not in names and len(found) == 7 and len(strays) == 6
    assert not names["c/9"].tracked
    assert np.corrcoef(names["c/9"].motion[:, 0], spoken[6].motion[:, 0])[0, 1] > 0.9


def test_from_clips_to_an_expert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole command on a portrait that talks; what was tracked once is not tracked again."""
    clips, runs = tmp_path / "clips", tmp_path / "runs"
    with AudioReader(Path(str(weights.find("demo/speech.ogg")))) as reader:
        speech = np.concatenate(list(reader))[:, None]
    avatar = load().avatar(Path(str(weights.find("demo/portrait.jpg"))), size=256)
    for person, part in (("one", speech[:32_000]), ("two", speech[32_000:64_000])):
        said = write_wav(tmp_path / f"{person}.wav", part, SAMPLE_RATE)
        (clips / person).mkdir(parents=True)
        avatar.animate(said).save(clips / person / "a.mp4")
    options = sync.SyncOptions(minutes=0.02)
    path = sync.train_sync(clips, runs, tmp_path / "none", options)
    expert = evaluation.SyncExpert.load(path)
    seen, said = expert.vectors(Motion.zeros(33), np.zeros((132, N_MELS), np.float32))
    assert np.isfinite(seen).all() and np.isfinite(said).all()
    assert "other people: frames" in capsys.readouterr().out
    kept = sorted((runs / "cache" / "sync").rglob("*.npz"))
    assert [p.parent.name for p in kept] == ["one", "two"]
    before = [p.stat().st_mtime_ns for p in kept]
    sync.train_sync(clips, runs, tmp_path / "none", options)
    assert [p.stat().st_mtime_ns for p in kept] == before
    with pytest.raises(InputError, match="is in step, tracked and long enough"):
        (tmp_path / "empty").mkdir()
        sync.train_sync(tmp_path / "empty", tmp_path / "other", tmp_path / "none", options)


def test_export_agrees_for_any_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = sync_export.export_sync(SyncNet(SyncDims(38)), tmp_path / "sync.onnx")
    assert path.stat().st_size < 1.5e6
    expert = evaluation.SyncExpert.load(path)
    faces = np.random.default_rng(0).standard_normal((33, 40)).astype(np.float32)
    motion = replace(Motion.zeros(33), expression=faces)
    seen, said = expert.vectors(motion, np.zeros((132, N_MELS), np.float32))
    assert seen.shape == said.shape == (17, 96)
