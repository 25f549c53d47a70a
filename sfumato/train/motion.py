"""Trains the motion generator on tracked clips: flow matching, and when blinks and saccades begin.

The speech encoder stays as it is; what it hears in every clip, clean and disturbed, is computed
once. Silent clips teach head, eyes and blinks with the sound left out, as a tenth of all rows do
(classifier-free guidance, arXiv 2207.12598).
"""

from __future__ import annotations

import math
import time
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.errors import InputError
from sfumato.latent import FaceBasis
from sfumato.models.motion import N_FACE, MotionDims, MotionNet, flow_loss
from sfumato.train.loop import Loader, bfloat16_pays, follow, save
from sfumato.train.motion_batch import Batcher, Spread
from sfumato.train.motion_clips import Take

Array = NDArray[np.float32]

CHECK_EVERY = 250
EVENT_WEIGHT = 0.5


@dataclass(frozen=True)
class TrainOptions:
    """Settings of a training run; the defaults made the shipped weights.

    ``cleared`` leaves out clips without a cleared licence; cache and run must be made that way.
    """

    minutes: float = 30.0
    seed: int = 0
    rate: float = 1e-3
    threads: int = 1
    draws: int = 2
    cleared: bool = False


def train_motion(takes: list[Take], run: Path, options: TrainOptions, basis: FaceBasis) -> Path:
    """Trains for ``options.minutes`` in all, runs before this one included.

    The weights kept are the running average with the least loss on people set apart.

    Args:
        takes: by :func:`sfumato.train.motion_clips.load_takes`.
        run: folder for ``last.pt`` and ``best.pt``.
        options: see :class:`TrainOptions`.
        basis: the face basis of the cached expressions.

    Returns:
        The path of the best checkpoint.

    Raises:
        InputError: No take has sound and face.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    run.mkdir(parents=True, exist_ok=True)
    if not any(take.synced for take in takes):
        raise InputError("no clip with a tracked face and sound: label the clips by teacher.py")
    learn, check = split_people(takes)
    spread = Spread.of(learn)
    dims = MotionDims(n_heard=takes[0].heard.shape[2] - N_FACE - 2)
    trainer = Trainer(dims, spread, options, run)
    trainer.resume()
    checker, rng = Batcher(check, spread, basis, augment=False), np.random.default_rng(1)
    fixed = [checker.batch(rng) for _ in range(6)]
    batcher = Batcher(learn, spread, basis)
    loader = Loader(batcher.batch, options.seed + trainer.step)
    try:
        trainer.loop(loader, fixed)
    finally:
        loader.close()
    return run / "best.pt"


def split_people(takes: list[Take]) -> tuple[list[Take], list[Take]]:
    """Every tenth person with a real, synced face is for checking; few people all learn."""
    people = sorted({t.person for t in takes if t.style[0] > 0 and t.synced})
    apart = set(people[3::10]) if len(people) >= 20 else set()
    check = [t for t in takes if t.person in apart] or takes
    return [t for t in takes if t.person not in apart], check


class Trainer:
    """The loop with its optimiser and a running average of the weights."""

    def __init__(self, dims: MotionDims, spread: Spread, options: TrainOptions, run: Path) -> None:
        self.options, self.run, self.spread = options, run, spread
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = MotionNet(dims).to(self.device)
        self.average = deepcopy(self.net)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=options.rate, weight_decay=0.05
        )
        self.step, self.spent, self.best = 0, 0.0, math.inf

    def resume(self) -> None:
        """Takes up an earlier run where it stopped, or begins with weights alone."""
        last = self.run / "last.pt"
        if not last.exists():
            return
        state = torch.load(last, weights_only=True, map_location=self.device)
        self.average.load_state_dict(state["net"])
        self.net.load_state_dict(state.get("raw", state["net"]))
        if "optimiser" not in state:
            return
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.spent, self.best = state["step"], state["spent"], state["best"]

    def loop(self, loader: Loader[dict[str, Array]], fixed: list[dict[str, Array]]) -> None:
        """Steps until the time is over."""
        trial, probe = deepcopy(self.net), self._tensors(fixed[0])
        half = self.device.type == "cuda" or bfloat16_pays(
            lambda: motion_loss(trial, probe, self.options.draws)["total"]
        )
        before, start = self.spent, time.monotonic()
        while (share := self.spent / self.options.minutes) < 1:
            rate = self.options.rate * min(1, (self.step + 1) / 200)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
            self.net.train()
            batch = self._tensors(loader.next())
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
                parts = motion_loss(self.net, batch, self.options.draws)
            self.optimiser.zero_grad()
            parts["total"].backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            follow(self.average, self.net, min(0.998, self.step / (self.step + 20)))
            self.spent = before + (time.monotonic() - start) / 60
            if self.step % CHECK_EVERY == 0:
                self._check(fixed)
        self._check(fixed)

    def _tensors(self, batch: dict[str, Array]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(a).to(self.device) for name, a in batch.items()}

    def _check(self, fixed: list[dict[str, Array]]) -> None:
        self.average.eval()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            parts = [motion_loss(self.average, self._tensors(b), 8) for b in fixed]
        mean = {k: float(np.mean([float(p[k]) for p in parts])) for k in parts[0]}
        text = " ".join(f"{k} {v:.4f}" for k, v in mean.items())
        better = mean["total"] < self.best
        self.best = min(self.best, mean["total"])
        left = max(self.options.minutes - self.spent, 0)
        mark = " *" if better else ""
        print(f"{self.step} {self.spent:.1f} min, {left:.0f} left: {text}{mark}", flush=True)
        weights = {
            "net": self.average.state_dict(), "dims": asdict(self.net.dims),
            "spread": {k: torch.from_numpy(v) for k, v in asdict(self.spread).items()},
        }  # fmt: skip
        if better:
            save(self.run / "best.pt", weights)
        going_on = {
            "raw": self.net.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "spent": self.spent, "best": self.best,
        }  # fmt: skip
        save(self.run / "last.pt", weights | going_on)


def motion_loss(net: MotionNet, batch: dict[str, Tensor], draws: int) -> dict[str, Tensor]:
    """Loss parts by name; ``total`` is what training minimises."""
    given = net(batch["past"], batch["heard"], batch["style"])
    seen = batch["seen"][..., 0] > 0
    given, begun = given[seen], batch["events"][seen]
    told = net.for_flow(given, begun)
    flow = flow_loss(net.flow, told, batch["drawn"][seen], batch["mask"][seen], draws)
    events = nn.functional.binary_cross_entropy_with_logits(net.events(given).float(), begun)
    return {"flow": flow, "events": events, "total": flow + EVENT_WEIGHT * events}
