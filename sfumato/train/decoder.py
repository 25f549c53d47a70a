"""``sfumato train decoder``: learn what a warp of the photo lacks."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.geometry.patches import PATCHES, Patch
from sfumato.media.image import save_image
from sfumato.provenance import marker
from sfumato.train.decoder_cache import fill_cache
from sfumato.train.decoder_data import Batch, Pairs
from sfumato.train.decoder_judge import Judges
from sfumato.train.decoder_loss import Critic, gradients
from sfumato.train.decoder_net import Decoder
from sfumato.train.decoder_teacher import Teacher, apart
from sfumato.train.decoder_watch import figures, sheet
from sfumato.train.loop import Loader, bfloat16_pays, follow, save

BATCH = 12  # pairs: 24 frames
_USUAL = 32  # pairs that tell the ranges of the layers
_RATE = 1e-3
_CRITIC_RATE = 4e-4
_CRITIC_FROM = 0.25  # share of the training after which the critic speaks; from a start at once
_CRITIC = 0.05
_MATCHING = 0.3
_GRADIENT = 1.0
_PERCEPTUAL = 0.25
_POINTS = 2.0  # for every distance of the eyes by which points are off
_STEADY = 0.5
_STILL = 0.002  # for every pixel of flow
_FOCUS = 3.0  # weight of lips and eyes over the rest of their patches


@dataclass
class State:
    """All that a training is; ``minutes`` of it are done."""

    network: Decoder
    average: Decoder
    critic: Critic
    optimiser: torch.optim.Optimizer
    critic_optimiser: torch.optim.Optimizer
    step: int = 0
    minutes: float = 0.0

    def stored(self) -> dict[str, object]:
        return {
            name: value.state_dict() if hasattr(value, "state_dict") else value
            for name, value in vars(self).items()
        }

    def load(self, path: Path) -> None:
        kept = torch.load(path, weights_only=True, map_location="cpu")
        for name, value in vars(self).items():
            if hasattr(value, "load_state_dict"):
                value.load_state_dict(kept[name])
        self.step, self.minutes = kept["step"], kept["minutes"]

    def begin(self, path: Path) -> None:
        """Weights of an earlier training, by :meth:`keep`, for a new one."""
        kept = torch.load(path, weights_only=True, map_location="cpu")
        self.network.load_state_dict(_fitting(kept["network"], self.network))
        self.average.load_state_dict(self.network.state_dict())
        self.critic.load_state_dict(kept["critic"])

    def keep(self, path: Path) -> None:
        """Write what another training can begin with, as half floats: a tenth of a checkpoint."""
        parts = {"network": self.average.state_dict(), "critic": self.critic.state_dict()}
        halves = {
            name: {k: v.half() if v.is_floating_point() else v for k, v in part.items()}
            for name, part in parts.items()
        }
        save(path, halves)


def _fitting(kept: dict[str, Tensor], network: Decoder) -> dict[str, Tensor]:
    """Weights of a network of another size: what has no place in this one begins anew."""
    return {
        name: kept[name] if name in kept and kept[name].shape == fresh.shape else fresh
        for name, fresh in network.state_dict().items()
    }


def new_state(patch: Patch, device: torch.device) -> State:
    network = Decoder(patch).to(device, memory_format=torch.channels_last)
    critic = Critic().to(device, memory_format=torch.channels_last)
    return State(
        network=network,
        average=copy.deepcopy(network).eval(),
        critic=critic,
        optimiser=torch.optim.AdamW(network.parameters(), _RATE, (0.5, 0.99), weight_decay=1e-4),
        critic_optimiser=torch.optim.AdamW(critic.parameters(), _CRITIC_RATE, (0.0, 0.99)),
    )


def features_of(batch: Batch) -> Tensor:
    """Where lips or eyes are: (2 B, 1, H, W) in 0..1."""
    return (2 * F.avg_pool2d(batch.masks.amax(1, keepdim=True), 9, 1, 4)).clamp(max=1)


def focus(batch: Batch, like: Tensor) -> Tensor:
    """Weight (2 B, 1, h, w) of every place in a loss, mean 1, as large as ``like``."""
    size = like.shape[2:]
    weight = F.interpolate(1 + _FOCUS * features_of(batch), size, mode="bilinear")
    return weight / weight.mean()


def reconstruction(
    made: tuple[Tensor, Tensor, Tensor], batch: Batch, judges: Judges
) -> dict[str, Tensor]:
    """The losses that need no critic, each a number."""
    out, flow, _ = made
    half = len(out) // 2
    weight = focus(batch, out)
    slope = (gradients(out) - gradients(batch.real)).abs() * weight[:, :, 1:, 1:]
    change = (out[half:] - out[:half]) - (batch.real[half:] - batch.real[:half])
    return {
        "l1": ((out - batch.real).abs() * weight).mean(),
        "gradient": _GRADIENT * slope.mean(),
        "perceptual": _PERCEPTUAL * judges.features.distance(out, batch.real),
        "steady": _STEADY * (change.abs() * weight[half:]).mean(),
        "still": _STILL * flow.abs().mean(),
        "points": _POINTS * judges.points.distance(out, batch.real, batch.masks),
    }


def generator_loss(
    state: State, batch: Batch, judges: Judges, critic: bool, teacher: Teacher | None = None
) -> tuple[Tensor, Tensor]:
    """Loss and the frames made; with a teacher, it alone says what is right."""
    made = state.network(batch)
    out = made[0]
    if teacher is not None:
        return apart(made, teacher(batch), batch, focus(batch, out)), out
    losses = reconstruction(made, batch, judges)
    if critic:
        photo = torch.cat([batch.photo[:, :3] * 2 - 1] * 2)
        score, seen = state.critic(out, batch.masks, photo)
        with torch.no_grad():
            _, wanted = state.critic(batch.real, batch.masks, photo)
        losses["critic"] = -_CRITIC * (score.float() * focus(batch, score)).mean()
        matching = [(a - b).abs().mean() for a, b in zip(seen, wanted, strict=True)]
        losses["matching"] = _MATCHING * torch.stack(matching).float().mean()
    return torch.stack([v.float() for v in losses.values()]).sum(), out


def critic_loss(state: State, batch: Batch, made: Tensor) -> Tensor:
    """Hinge loss of the critic on real and made frames."""
    photo = torch.cat([batch.photo[:, :3] * 2 - 1] * 2)
    pictures = torch.cat([batch.real, made.detach()])
    score, _ = state.critic(pictures, torch.cat([batch.masks] * 2), torch.cat([photo] * 2))
    real, fake = score.float().chunk(2)
    weight = focus(batch, real)
    return ((F.relu(1 - real) + F.relu(1 + fake)) * weight).mean()


def train(
    patch: Patch,
    files: list[Path],
    folder: Path,
    minutes: float,
    seed: int = 0,
    start: Path | None = None,
    taught_by: Path | None = None,
) -> Decoder:
    """Train one kind of patch for ``minutes`` in all, resumed runs included.

    ``folder/<name>.pt`` holds everything that resuming needs; beside it figures (``.log``) and
    sheets on held-out people (photo, drawn, learned, real) of every checkpoint.

    Args:
        files: the cache. On a GPU the same command trains there.
        start: folder of ``<name>.pt`` by :meth:`State.keep` to begin with unless resumed.
        taught_by: folder of exported networks to become like; None learns from real frames.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    state = new_state(patch, device)
    path = folder / f"{patch.name}.pt"
    if path.exists():
        state.load(path)
    elif start is not None:
        state.begin(start / f"{patch.name}.pt")
    pairs = Pairs(files, patch.name)
    watched = Pairs(files, patch.name, held_out=True).spread(64).to(device)
    print(f"{patch.name}: {len(pairs)} pairs, from step {state.step}", flush=True)
    judges = Judges(patch).to(device, memory_format=torch.channels_last)
    teacher = Teacher.load(patch, taught_by) if taught_by is not None else None
    count = BATCH * (4 if device.type == "cuda" else 1)
    threads = 12 if device.type == "cuda" else 1
    loader = Loader(lambda rng: pairs.draw(count, rng), seed + state.step, threads)
    half = device.type == "cuda" or _half_pays(state, loader.next().to(device), judges, teacher)
    last = saved = time.monotonic()
    while state.minutes < minutes:
        share = state.minutes / minutes
        critic = teacher is None and (start is not None or share >= _CRITIC_FROM)
        _step(state, loader.next().to(device), judges, share, half, critic, teacher)
        now = time.monotonic()
        state.minutes, last = state.minutes + (now - last) / 60, now
        if now - saved > 300:
            _checkpoint(state, patch, watched, judges, folder, minutes)
            saved = time.monotonic()
    loader.close()
    _checkpoint(state, patch, watched, judges, folder, minutes)
    state.keep(folder / "start" / f"{patch.name}.pt")
    return state.average


def _half_pays(state: State, batch: Batch, judges: Judges, teacher: Teacher | None) -> bool:
    probe = copy.copy(state)
    probe.network = copy.deepcopy(state.network)
    return bfloat16_pays(lambda: generator_loss(probe, batch, judges, False, teacher)[0])


def _step(
    state: State,
    batch: Batch,
    judges: Judges,
    share: float,
    half: bool,
    critic: bool,
    teacher: Teacher | None,
) -> None:
    fall = min(1.0, (state.step + 1) / 200) * (0.5 * (1 + math.cos(math.pi * share)) + 0.02)
    for optimiser, rate in ((state.optimiser, _RATE), (state.critic_optimiser, _CRITIC_RATE)):
        for group in optimiser.param_groups:
            group["lr"] = rate * fall
    state.network.train()
    with torch.autocast(batch.photo.device.type, dtype=torch.bfloat16, enabled=half):
        loss, made = generator_loss(state, batch, judges, critic, teacher)
    state.optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimiser.step()
    if critic:
        with torch.autocast(batch.photo.device.type, dtype=torch.bfloat16, enabled=half):
            loss = critic_loss(state, batch, made)
        state.critic_optimiser.zero_grad()
        loss.backward()
        state.critic_optimiser.step()
    state.step += 1
    follow(state.average, state.network, min(0.998, 1 - 1 / (state.step + 1)))


def _checkpoint(
    state: State,
    patch: Patch,
    watched: Batch,
    judges: Judges,
    folder: Path,
    minutes: float,
) -> None:
    save(folder / f"{patch.name}.pt", state.stored())
    found, out = figures(state.average, watched, judges)
    text = " ".join(f"{k} {v:.3f}" for k, v in found.items())
    line = f"{patch.name} {state.step}: {text}; {minutes - state.minutes:.1f} min left"
    print(line, flush=True)
    with (folder / f"{patch.name}.log").open("a", encoding="utf8") as handle:
        handle.write(line + "\n")
    save_image(
        folder / f"{patch.name}_{state.step:06d}.png",
        sheet(watched, out),
        force=True,
        finish=marker(),
    )


def train_decoder(
    clips: Path,
    tracks: Path,
    runs: Path,
    parts: list[str],
    minutes: float,
    threads: int = 2,
    seed: int = 0,
    cleared: bool = False,
    start: Path | None = None,
    taught_by: Path | None = None,
) -> None:
    """Fill ``runs/cache/decoder`` where needed, train, export to ``runs/decoder_<part>*.onnx``.

    Args:
        clips: folder of clips; ``tracks``: their landmarks by teacher.py.
        parts: ``mouth``, ``eyes``.
        minutes: for each part.
        threads: CPU threads.
        start, taught_by: see :func:`train`.
    """
    from sfumato.train.decoder_export import export_decoder

    cv2.setNumThreads(1)
    torch.set_num_threads(threads)
    cache = runs / "cache" / "decoder"
    files = fill_cache(clips, tracks, cache, cleared, threads)
    for patch in PATCHES:
        if patch.name in parts:
            network = train(patch, files, runs / "decoder", minutes, seed, start, taught_by)
            usual = Pairs(files, patch.name).spread(_USUAL)
            flow, mixed = export_decoder(network.photo, network.patch, patch, usual, runs)
            print(f"{patch.name}: 8 bits cost {flow:.3f} pixels, {mixed:.2f} levels", flush=True)
