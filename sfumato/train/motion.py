"""Trains the motion network: sound to expression, and to the features of a speech teacher.

One loss pulls the trunk towards the teacher's features on everything with speech; the other fits
faces, measured on landmarks (lips most), with closures and speeds counted extra. Speech without a
face has the face that a regression from the teacher's features expects (``motion_labels``), so
that a few minutes of synchronised video teach through hours of speech.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.corpus import HELD_OUT_SPEAKERS, ClipInfo, read_index
from sfumato.errors import InputError
from sfumato.latent import N_EXPRESSION, FaceBasis
from sfumato.models.motion import MotionDims, MotionNet
from sfumato.speech import (
    HOPS_PER_FRAME,
    LEVEL_START_DB,
    SILENT_FEATURE,
    follow_level,
    loudness_db,
    normalise,
)
from sfumato.train.life import fit_life
from sfumato.train.motion_data import Clip, RowMaker, load_mels, voice_of
from sfumato.train.motion_export import calibrate, export, load_checkpoint
from sfumato.train.motion_labels import taught
from sfumato.train.motion_targets import OPEN, Measures, Target, person_gains, targets

Array = NDArray[np.float32]

ROWS, FRAMES = 12, 96
# Weight of a clip by its source beyond the square root of its person's minutes.
KIND_WEIGHT = {"real": 1.0, "generated": 0.7, "drawn": 0.35}
WIDE_SOURCES = ("talkvid", "pcavs", "edtalk", "sadtalker", "dfrf", "videoretalking")


@dataclass(frozen=True)
class TrainOptions:
    """Settings of a training run; the defaults made the shipped weights.

    ``minutes`` are processor time, so that a busy machine trains as far as an idle one.
    ``cleared`` leaves out clips without a cleared licence; cache and run must be made that way.
    """

    minutes: float = 15.0
    seed: int = 0
    rate: float = 2e-3
    threads: int = 1
    teacher_weight: float = 0.1
    cleared: bool = False


def train_motion(
    data: Path, cache: Path, run: Path, options: TrainOptions, basis: FaceBasis
) -> Path:
    """Trains for ``options.minutes`` (resuming ``run/last.pt``).

    The average of the last steps is kept: the loss on the check people is too noisy to choose by,
    and the annealed end measured best on held-out people.

    Args:
        data: corpus folder with ``index.tsv`` or plain videos.
        cache: filled by :func:`sfumato.train.motion_cache.make_cache`.
        run: folder for ``last.pt``.
        options: see :class:`TrainOptions`.
        basis: the face basis of the cached expressions.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: The cache holds no clip with motion.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    run.mkdir(parents=True, exist_ok=True)
    measures = Measures.of(basis)
    learn, check = load_clips(read_index(data, options.cleared), cache, run, measures)
    net = MotionNet(MotionDims(N_EXPRESSION))
    rows = FRAMES + net.dims.context + 1
    n_teacher = net.dims.n_teacher
    makers = [
        RowMaker(part, rows, n_teacher, N_EXPRESSION, options.seed + i)
        for i, part in enumerate((learn, check))
    ]
    fixed = [makers[1].batch(ROWS) for _ in range(4)]
    trainer = Trainer(net, measures, options, run)
    trainer.resume()
    trainer.loop(makers[0], fixed)
    return run / "last.pt"


class Trainer:
    """The loop with its optimiser and a running average of the weights."""

    def __init__(
        self, net: MotionNet, measures: Measures, options: TrainOptions, run: Path
    ) -> None:
        self.net, self.options, self.run = net, options, run
        self.loss = MotionLoss(measures, net.dims, options.teacher_weight)
        self.optimiser = torch.optim.AdamW(net.parameters(), lr=options.rate, weight_decay=0.02)
        self.average = torch.optim.swa_utils.AveragedModel(
            net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
        )
        self.step = 0

    def resume(self) -> None:
        """Takes weights from an earlier run, its optimiser starts afresh."""
        last = self.run / "last.pt"
        if last.exists():
            state = torch.load(last, weights_only=True)
            self.net.load_state_dict(state["net"])
            self.average.module.load_state_dict(state["net"])

    def loop(self, maker: RowMaker, fixed: list[dict[str, Array]]) -> None:
        """Steps until the time is over; checks every 100 steps."""
        start = time.process_time()
        while (share := (time.process_time() - start) / 60 / self.options.minutes) < 1:
            rate = self.options.rate * min(1, (self.step + 1) / 100)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
            self.net.train()
            parts = self.loss(self.net, maker.batch(ROWS))
            self.optimiser.zero_grad()
            parts["total"].backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimiser.step()
            self.average.update_parameters(self.net)
            self.step += 1
            if self.step % 100 == 0:
                self._check(fixed, (time.process_time() - start) / 60)
        self._check(fixed, (time.process_time() - start) / 60)

    def _check(self, fixed: list[dict[str, Array]], minutes: float) -> None:
        net: MotionNet = self.average.module
        net.eval()
        with torch.no_grad():
            parts = [self.loss(net, batch) for batch in fixed]
        mean = {k: float(np.mean([float(p[k]) for p in parts])) for k in parts[0]}
        parts_text = " ".join(f"{k} {v:.4f}" for k, v in mean.items())
        print(f"{self.step} {minutes:.1f} min {parts_text}", flush=True)
        save(net, self.run / "last.pt")


def save(net: MotionNet, path: Path) -> None:
    """Weights and sizes; complete or absent."""
    partial = path.with_suffix(".partial")
    torch.save({"net": net.state_dict(), "dims": asdict(net.dims)}, partial)
    os.replace(partial, path)


class MotionLoss:
    """Face, speed, closure, teacher and voice losses of a batch."""

    def __init__(self, measures: Measures, dims: MotionDims, teacher_weight: float) -> None:
        self.metric = torch.from_numpy(measures.metric)
        self.lips = torch.from_numpy(measures.lips)
        self.first = dims.context - dims.look_ahead + 1  # row frame of the first output
        self.teacher_weight = teacher_weight

    def __call__(self, net: MotionNet, batch: dict[str, Array]) -> dict[str, Tensor]:
        """Loss parts by name; ``total`` is what training minimises."""
        hidden = net.trunk(torch.from_numpy(batch["features"]))
        part = slice(self.first, self.first + hidden.shape[2])
        mask, teacher, motion, voice = (
            torch.from_numpy(batch[k][:, part]) for k in ("mask", "teacher", "motion", "voice")
        )
        seen = mask[..., 0]
        away = (net.teacher(hidden).transpose(1, 2) - teacher).square().mean(-1)
        heard = torch.nn.functional.binary_cross_entropy_with_logits(
            net.voice(hidden)[:, 0], voice, reduction="none"
        )
        out = self._face(net.motion(hidden).transpose(1, 2), motion, mask[..., 1])
        out["teacher"] = (away * seen).sum() / seen.sum().clamp(min=1)
        out["voice"] = (heard * mask[..., 2]).sum() / mask[..., 2].sum().clamp(min=1)
        out["total"] = out["face"] + self.teacher_weight * out["teacher"] + 0.2 * out["voice"]
        return out

    def _face(self, made: Tensor, real: Tensor, mask: Tensor) -> dict[str, Tensor]:
        count = mask.sum().clamp(min=1)
        error = (made - real) @ self.metric
        shape = (huber(error).mean(-1) * mask).sum() / count
        lips_made, lips_real = made @ self.lips, real @ self.lips
        # A wrong gap on a closed mouth is seen at once: it counts double.
        weight = torch.ones_like(lips_real)
        weight[..., :3] += (lips_real[..., :3] < 0.2).float()
        lips = (huber(lips_made - lips_real) * weight).mean(-1)
        lips = (lips * mask).sum() / count
        both = mask[:, 1:] * mask[:, :-1]
        speed = (lips_made.diff(dim=1) - lips_real.diff(dim=1)).abs().mean(-1)
        speed = (speed * both).sum() / both.sum().clamp(min=1)
        return {"face": shape + lips + 0.5 * speed, "lips": lips, "speed": speed}


def huber(x: Tensor) -> Tensor:
    """Square near zero, slope one beyond."""
    return torch.nn.functional.smooth_l1_loss(x, torch.zeros_like(x), reduction="none")


def load_clips(
    infos: list[ClipInfo], cache: Path, run: Path, measures: Measures
) -> tuple[list[Clip], list[Clip]]:
    """Training clips and a check set of other people, with weights.

    Raises:
        InputError: No clip with motion.
    """
    known = {info.name: info for info in infos}
    faces = {
        name: target
        for name, info in known.items()
        if usable(info) and (target := targets(info, cache, measures)) is not None
    }
    gains = person_gains({n: (known[n].person, t) for n, t in faces.items()})
    teacher = teacher_projection(cache, run, known)
    clips: list[Clip] = []
    for name in load_mels(cache):
        info = known.get(name)
        if info is not None and not usable(info):
            continue
        clips.append(_clip(name, info, faces.get(name), gains, cache, teacher))
    if not any(c.motion is not None for c in clips):
        raise InputError(f"no clip with tracked faces and sound in {cache}: fill the cache first")
    learn, check = split_people(weighted(clips, known), known)
    return taught(learn), check


def usable(info: ClipInfo) -> bool:
    """Whether a clip may teach: training split, own sound, in sync, not a held-out speaker."""
    return (
        info.split == "train"
        and info.synced
        and info.trusted
        and info.source not in HELD_OUT_SPEAKERS
    )


def _clip(
    name: str,
    info: ClipInfo | None,
    face: Target | None,
    gains: dict[str, float],
    cache: Path,
    teacher: tuple[Array, Array] | None,
) -> Clip:
    mel = np.load(cache / "mel" / f"{name}.npy")
    frames = len(mel) // 4
    if face is not None:
        frames = min(frames, len(face.motion))
    features = None
    path = cache / "moon" / f"{name}.npy"
    if teacher is not None and path.exists():
        mean, basis = teacher
        raw = (np.load(path).astype(np.float32) - mean) @ basis
        frames = min(frames, len(raw))
        features = raw[:frames].astype(np.float16)
    mel = mel[: 4 * frames]
    music = info is not None and info.content in ("song", "rap")
    person = info.person if info else name.split("/")[0]
    return Clip(
        name,
        person,
        mel,
        features,
        None if face is None else face.motion[:frames] * gains[person],
        None if face is None else face.good[:frames],
        None if music else voice_of(mel.astype(np.float32)),
    )


def weighted(clips: list[Clip], known: dict[str, ClipInfo]) -> list[Clip]:
    """Weights: square root of a person's length, shared over their clips; kinds weighed."""
    length: dict[str, int] = defaultdict(int)
    for clip in clips:
        length[clip.person] += len(clip)
    out = []
    for clip in clips:
        weight = len(clip) / math.sqrt(length[clip.person])
        info = known.get(clip.name)
        if info is not None:
            weight *= KIND_WEIGHT[info.kind] * (2.0 if info.source in WIDE_SOURCES else 1.0)
        out.append(replace(clip, weight=weight))
    # Two fifths of the time speech without a face, for the teacher alone.
    face = sum(c.weight for c in out if c.motion is not None)
    bare = sum(c.weight for c in out if c.motion is None)
    share = 0.67 * face / bare if bare else 1.0
    return [c if c.motion is not None else replace(c, weight=c.weight * share) for c in out]


def split_people(clips: list[Clip], known: dict[str, ClipInfo]) -> tuple[list[Clip], list[Clip]]:
    """Every twelfth person with a real face is for checking; all clips learn if people are few."""
    faces = (c for c in clips if c.motion is not None)
    people = sorted({c.person for c in faces if known[c.name].kind == "real"})
    apart = set(people[5::12]) if len(people) >= 24 else set()
    check = [c for c in clips if c.person in apart and c.motion is not None] or clips
    return [c for c in clips if c.person not in apart], check


def teacher_projection(
    cache: Path, run: Path, known: dict[str, ClipInfo]
) -> tuple[Array, Array] | None:
    """Mean and projection of the teacher's features to ``n_teacher``, kept in ``run``."""
    kept = run / "teacher.npz"
    if kept.exists():
        stored = np.load(kept)
        return stored["mean"], stored["basis"]
    paths = sorted((cache / "moon").rglob("*.npy"))
    if not paths:
        return None
    size = MotionDims(N_EXPRESSION).n_teacher
    sample = np.concatenate([np.load(p)[::9] for p in paths]).astype(np.float32)
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((sample - mean).T))
    order = np.argsort(values)[::-1][:size]
    # Half whitened: the small directions count, but less than the large ones.
    basis = (vectors[:, order] / values[order] ** 0.25).astype(np.float32)
    basis /= ((sample - mean) @ basis).std()
    np.savez(kept, mean=mean, basis=basis)
    return mean, basis


def finish(
    data: Path, cache: Path, run: Path, basis: FaceBasis, target: Path, cleared: bool = False
) -> Path:
    """Calibrates the weights on the check people, fits life, writes ``target`` (ONNX)."""
    net = load_checkpoint(run / "last.pt")
    infos = read_index(data, cleared)
    measures = Measures.of(basis)
    _, check = load_clips(infos, cache, run, measures)
    made, real = [], []
    for clip in check:
        if clip.motion is None or clip.good is None:
            continue
        window = whole_clip(np.asarray(clip.mel, np.float32), net.dims)
        with torch.no_grad():
            motion = net(torch.from_numpy(window)[None])[0][0].numpy()
        made.append(motion[: len(clip)][clip.good])
        real.append(clip.motion[clip.good])
    stretch = calibrate(np.concatenate(made), np.concatenate(real), measures.opening, OPEN)
    export(net, stretch, fit_life(infos, cache, basis), target)
    return target


def whole_clip(mel: Array, dims: MotionDims) -> Array:
    """Features (hops, N_MELS) of a clip with the silence that a stream has at its ends."""
    loud, level = loudness_db(mel), np.float32(LEVEL_START_DB)
    levels = np.empty(len(mel), np.float32)
    for i in range(len(mel)):
        level = np.float32(follow_level(np.asarray(level), loud[i]))
        levels[i] = level
    before = dims.window_hops - (dims.look_ahead + 1) * HOPS_PER_FRAME
    after = dims.look_ahead * HOPS_PER_FRAME
    padded = np.pad(
        normalise(mel, levels), ((before, after), (0, 0)), constant_values=SILENT_FEATURE
    )
    return padded.astype(np.float32)
