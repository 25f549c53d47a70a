"""Trains the sync expert: which sound and which motion belong together, from real people only.

Every frame's motion must find its own sound among all frames of its clip, and every clip its own
lag among all lags. Half of the batches are speech without a face, with the face to expect (see
:mod:`sfumato.train.sync_teacher`), so that the expert carries over to new voices.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sfumato.corpus import read_index
from sfumato.errors import InputError
from sfumato.models.sync import SyncDims, SyncNet
from sfumato.train.loop import Loader, bfloat16_pays, follow, save
from sfumato.train.sync_data import Clip, Parts, Rows, load_clips, make_cache, usable
from sfumato.train.sync_export import export_sync
from sfumato.train.sync_teacher import expected

Array = NDArray[np.float32]
Batches = list[dict[str, Array]]

# Frames and number of the rows of a batch: the many short clips, and the longer ones.
SHAPES = ((29, 72), (60, 28))
SPOKEN = (90, 20)  # the same of speech without faces
NEAR = 1  # frames beside the right one that are neither right nor wrong
LIDS = 2  # the first coefficients of an expression: lips do not blink


@dataclass(frozen=True)
class SyncOptions:
    """Settings of a run; the defaults made the shipped weights.

    ``minutes`` are processor time.
    """

    minutes: float = 6.0
    seed: int = 0
    rate: float = 2e-3
    threads: int = 1
    cleared: bool = False


def lips_of(arrays: Parts) -> Array:
    """What the expert sees of a face: its expression without the lids."""
    return np.asarray(arrays["expression"][:, LIDS:], np.float32)


def train_sync(data: Path, runs: Path, sounds: Path, options: SyncOptions) -> Path:
    """From clips to ``runs/sync.onnx``.

    Args:
        data: folder of clips with ``index.tsv`` or plain videos.
        runs: gets ``cache/sync``, which is kept, and the results.
        sounds: folder with ``mel/<name>.npy`` and ``moon/<name>.npy``, as the training of motion
            leaves them: features of a speech teacher. Without it the expert learns from faces
            alone.

    Raises:
        InputError: No usable clip.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    infos = [info for info in read_index(data, options.cleared) if usable(info)]
    make_cache(infos, runs / "cache" / "sync")
    clips = load_clips(infos, runs / "cache" / "sync", lips_of)
    if not any(len(c) >= SHAPES[0][0] for c in clips):
        raise InputError(f"no real clip in {data} is in step, tracked and long enough")
    learn, check = split_people(clips)
    listed = {info.name for info in read_index(data)}
    spoken, strays = expected(learn, sounds, listed)
    net = SyncNet(SyncDims(learn[0].motion.shape[1]))
    trainer = Trainer(net, learn, check, options)
    trainer.listen(Rows(spoken, SPOKEN[0], strays))
    trainer.loop()
    save(runs / "sync" / "last.pt", trainer.state())
    return export_sync(trainer.average, runs / "sync.onnx")


def split_people(clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Every twelfth person is for checking; all clips learn where people are few."""
    people = sorted({c.person for c in clips})
    apart = set(people[5::12]) if len(people) >= 24 else set()
    check = [c for c in clips if c.person in apart] or clips
    return [c for c in clips if c.person not in apart], check


class SyncLoss:
    """What training minimises; holds no weights."""

    def __call__(self, net: SyncNet, batch: dict[str, Array]) -> dict[str, Tensor]:
        """Parts by name, ``total`` their sum, ``right``: share of rows whose own lag wins."""
        seen, said = net(*(torch.from_numpy(batch[k]) for k in ("motion", "sound")))
        out = {"frames": self._frames(net, seen, said)}
        out["lags"], out["right"] = self._lags(net, seen, said)
        out["total"] = out["frames"] + out["lags"]
        return out

    @staticmethod
    def _frames(net: SyncNet, seen: Tensor, said: Tensor) -> Tensor:
        """Every frame's motion finds its sound within its clip, and the other way round.

        Frames of other clips would be told apart by voice and habit, which only the people of the
        training can be known by.
        """
        count, frames = seen.shape[:2]
        alike = (net.sharpness.exp() * seen @ said.transpose(1, 2)).float()
        number = torch.arange(frames)
        apart = (number[:, None] - number[None]).abs()
        alike = alike.masked_fill((apart > 0) & (apart <= NEAR), -1e4)
        wanted = number.repeat(count)
        there = F.cross_entropy(alike.flatten(0, 1), wanted)
        return 0.25 * (there + F.cross_entropy(alike.transpose(1, 2).flatten(0, 1), wanted))

    @staticmethod
    def _lags(net: SyncNet, seen: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Every row finds its lag among those up to half of its length."""
        frames = seen.shape[1]
        alike = (seen @ said.transpose(1, 2)).float()
        reach = frames // 2
        lags = [k for k in range(-reach, reach + 1) if k == 0 or abs(k) > NEAR]
        means = torch.stack([alike.diagonal(k, 1, 2).mean(1) for k in lags], 1)
        target = torch.full((len(means),), lags.index(0))
        right = (means.argmax(1) == target).float().mean()
        return F.cross_entropy(2.0 * net.sharpness.exp() * means, target), right


class Trainer:
    """The loop with its optimiser and a running average of the weights."""

    def __init__(
        self,
        net: SyncNet,
        learn: list[Clip],
        check: list[Clip],
        options: SyncOptions,
    ) -> None:
        self.net, self.options, self.loss = net, options, SyncLoss()
        moved = np.concatenate([c.motion for c in learn])
        net.mean.copy_(torch.from_numpy(moved.mean(axis=0)))
        net.spread.copy_(torch.from_numpy(moved.std(axis=0) + 1e-3))
        self.rows = [(Rows(learn, frames), count) for frames, count in SHAPES]
        self.rows = [(rows, count) for rows, count in self.rows if rows.clips]
        self.check = self._fixed(check)
        self.average = SyncNet(net.dims)
        self.average.load_state_dict(net.state_dict())
        self.step = 0

    @staticmethod
    def _fixed(check: list[Clip]) -> Batches:
        rng = np.random.default_rng(0)
        rows = [(Rows(check, frames), count) for frames, count in SHAPES]
        return [r.batch(count, rng) for r, count in rows if r.clips for _ in range(3)]

    def listen(self, spoken: Rows) -> None:
        """Also draw speech with the motion to expect, if there is any, in half of the batches."""
        if spoken.clips:
            count = SPOKEN[1]
            self.rows = [*self.rows, *([(spoken, count)] * len(self.rows))]

    def _make(self, rng: np.random.Generator) -> dict[str, Array]:
        rows, count = self.rows[int(rng.integers(len(self.rows)))]
        return rows.batch(count, rng)

    def loop(self) -> None:
        """Steps until the time is over; a line every 100 steps."""
        options = self.options
        probe = SyncNet(self.net.dims)
        probe.load_state_dict(self.net.state_dict())
        sample = self._make(np.random.default_rng(1))
        half = bfloat16_pays(lambda: self.loss(probe, sample)["total"])
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=options.rate, weight_decay=0.05)
        loader = Loader(self._make, options.seed)
        start = time.process_time()
        while (share := (time.process_time() - start) / 60 / options.minutes) < 1:
            for group in optimiser.param_groups:
                warm = min(1, (self.step + 1) / 100)
                group["lr"] = options.rate * warm * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
            self.net.train()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                total = self.loss(self.net, loader.next())["total"]
            optimiser.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimiser.step()
            self.step += 1
            follow(self.average, self.net, min(0.997, self.step / (self.step + 10)))
            if self.step % 100 == 0:
                self._report(share * options.minutes)
        loader.close()
        self._report(options.minutes)

    def _report(self, minutes: float) -> None:
        self.average.eval()
        with torch.no_grad():
            parts = [self.loss(self.average, batch) for batch in self.check]
        mean = {k: float(np.mean([float(p[k]) for p in parts])) for k in parts[0]}
        text = " ".join(f"{k} {v:.3f}" for k, v in mean.items())
        print(f"{self.step} {minutes:.1f} min, other people: {text}", flush=True)

    def state(self) -> dict[str, object]:
        """The average's weights and sizes."""
        return {"net": self.average.state_dict(), "dims": asdict(self.net.dims)}
