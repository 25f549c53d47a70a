"""Trains the speech encoder: sound to the features of a speech teacher, to faces, to lips' codes.

One loss pulls the trunk towards the teacher's features on everything with speech. A second fits
faces, measured on landmarks (lips most), with closures and speeds counted extra; speech without a
face has the face that networks on the teacher's features expect
(:mod:`sfumato.train.speech_labels`), so that an hour of synchronised video teaches through hours of
speech, with lips that close at known p, b, m (:mod:`sfumato.train.speech_phones`). A third is
contrastive: the code of a moment's sound must be nearer to the code of its own lips than to those
of other moments (after CLIP, arXiv 2103.00020, and SyncNet).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.corpus import read_index
from sfumato.latent import FaceBasis
from sfumato.models.speech import SpeechDims, SpeechEncoder
from sfumato.train.loop import Loader, bfloat16_pays, follow, save
from sfumato.train.motion_data import RowMaker
from sfumato.train.motion_targets import Measures
from sfumato.train.speech_clips import load_clips
from sfumato.train.speech_labels import taught, train_reader
from sfumato.train.speech_losses import disagreement, huber
from sfumato.train.speech_phones import closing
from sfumato.train.speech_ridge import fit_ridge

Array = NDArray[np.float32]

ROWS, FRAMES = 12, 128
HEARD = 120  # batches that the head is trained on, over and over: two hours of sound
DROPPED = 0.4  # of the hidden features, unknown to the head in training: they know its people
CHECK_EVERY = 200
N_LIPS = 8  # of Measures.lips


@dataclass(frozen=True)
class SpeechOptions:
    """Settings of a training run; the defaults made the shipped weights.

    ``cleared`` leaves out clips without a cleared licence; cache and run must be made that way.
    ``head`` trains only what reads the face off the hidden features, which stay as they are: the
    generator that was trained on them stays valid.
    """

    minutes: float = 60.0
    seed: int = 0
    rate: float = 2e-3
    threads: int = 1
    teacher_weight: float = 0.2
    match_weight: float = 0.02
    agree_weight: float = 1.0
    cleared: bool = False
    head: bool = False


def train_speech(
    data: Path, cache: Path, run: Path, options: SpeechOptions, basis: FaceBasis
) -> Path:
    """Trains for ``options.minutes`` in all, runs before this one included.

    The running average of the weights is kept: the loss on the check people is too noisy to choose
    by, and the annealed end measured best on held-out people.

    Args:
        data: corpus folder with ``index.tsv`` or plain videos.
        cache: filled by :func:`sfumato.train.motion_cache.make_cache`.
        run: folder for ``last.pt`` and ``teacher.npz``.
        options: see :class:`SpeechOptions`.
        basis: the face basis of the cached expressions.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: The cache holds no clip with motion.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    run.mkdir(parents=True, exist_ok=True)
    measures = Measures.of(basis).said()
    learn, check = load_clips(read_index(data, options.cleared), cache, run, measures)
    trainer = Trainer(measures, options, run)
    trainer.resume()
    dims = trainer.net.dims
    rows = FRAMES + dims.past + dims.look_ahead
    sizes = (rows, dims.n_teacher, dims.n_out)
    checker = RowMaker(check, *sizes, np.random.default_rng(options.seed + 1))
    fixed = [checker.batch(ROWS) for _ in range(3)]
    if options.head:  # faces that are only expected measured worse for it than tracked ones
        learn = [clip for clip in learn if clip.motion is not None]
    reader = fit_ridge if options.head else train_reader
    clips = closing(taught(learn, measures, options.seed, reader), cache, measures)
    maker = RowMaker(clips, *sizes, np.random.default_rng([options.seed, trainer.step]))
    heard = []
    if options.head:
        heard, fixed = trainer.hear(maker.batch(ROWS) for _ in range(HEARD)), trainer.hear(fixed)
    loader = Loader(
        lambda rng: heard[rng.integers(HEARD)] if heard else maker.batch(ROWS), options.seed
    )
    try:
        trainer.loop(loader, fixed)
    finally:
        loader.close()
    return run / "last.pt"


class Trainer:
    """The loop with its optimiser and a running average of the weights."""

    def __init__(self, measures: Measures, options: SpeechOptions, run: Path) -> None:
        self.options, self.run = options, run
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = SpeechEncoder(SpeechDims()).to(self.device)
        self.loss = SpeechLoss(measures, self.net.dims, options).to(self.device)
        self.average = deepcopy(self.net)
        own = [*self.net.parameters(), *self.loss.parameters()]
        if options.head:
            self.net.requires_grad_(False)
            own = list(self.net.motion.requires_grad_(True).parameters())
        self.optimiser = torch.optim.AdamW(own, lr=options.rate, weight_decay=0.02)
        self.step, self.spent = 0, 0.0

    def resume(self) -> None:
        """Takes up an earlier run where it stopped, or begins with weights alone.

        A run of the head begins with the weights of a run of all, and the reverse.
        """
        last = self.run / "last.pt"
        if not last.exists():
            return
        state = torch.load(last, weights_only=True, map_location=self.device)
        self.average.load_state_dict(_grown(state["net"], self.net))
        self.net.load_state_dict(_grown(state.get("raw", state["net"]), self.net))
        if "optimiser" not in state or state.get("head", False) != self.options.head:
            return
        self.loss.load_state_dict(state["loss"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.spent = state["step"], state["spent"]

    def loop(self, loader: Loader[dict[str, Array]], fixed: list[dict[str, Array]]) -> None:
        """Steps until the time is over."""
        trial = deepcopy(self.net)
        probe = self._tensors(fixed[0])
        half = self.device.type == "cuda" or bfloat16_pays(lambda: self.loss(trial, probe)["total"])
        before, start = self.spent, time.monotonic()
        while (share := self.spent / self.options.minutes) < 1:
            rate = self.options.rate * min(1, (self.step + 1) / 200)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
            self.step_on(loader.next(), half)
            self.spent = before + (time.monotonic() - start) / 60
            if self.step % CHECK_EVERY == 0:
                self.check(fixed)
        self.check(fixed)

    def step_on(self, batch: dict[str, Array], half: bool) -> None:
        """One step, in bfloat16 if ``half``; the running average follows."""
        self.net.train(not self.options.head)  # else its normalisation would follow
        self.loss.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            parts = self.loss(self.net, self._tensors(batch))
        self.optimiser.zero_grad()
        parts["total"].backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        follow(self.average, self.net, min(0.998, self.step / (self.step + 20)))

    def hear(self, batches: Iterable[dict[str, Array]]) -> list[dict[str, Array]]:
        """Batches with the hidden features, which stay, instead of those of the sound."""
        self.net.eval()
        out = []
        for batch in batches:
            with torch.no_grad():
                hidden = self.net.hidden(torch.from_numpy(batch["features"]).to(self.device))
            rest = {name: array for name, array in batch.items() if name != "features"}
            out.append(rest | {"hidden": hidden.cpu().numpy()})
        return out

    def _tensors(self, batch: dict[str, Array]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(a).to(self.device) for name, a in batch.items()}

    def check(self, fixed: list[dict[str, Array]]) -> None:
        """Prints the loss of the running average on fixed batches, and saves the run."""
        self.average.eval()
        self.loss.eval()
        with torch.no_grad():
            parts = [self.loss(self.average, self._tensors(batch)) for batch in fixed]
        mean = {k: float(np.mean([float(p[k]) for p in parts])) for k in parts[0]}
        text = " ".join(f"{k} {v:.4f}" for k, v in mean.items())
        left = max(self.options.minutes - self.spent, 0)
        print(f"{self.step} {self.spent:.1f} min, {left:.0f} left: {text}", flush=True)
        save(
            self.run / "last.pt",
            {
                "net": self.average.state_dict(), "raw": self.net.state_dict(),
                "loss": self.loss.state_dict(), "optimiser": self.optimiser.state_dict(),
                "step": self.step, "spent": self.spent, "dims": asdict(self.net.dims),
                "head": self.options.head,
            },
        )  # fmt: skip


def _grown(kept: dict[str, Tensor], net: SpeechEncoder) -> dict[str, Tensor]:
    """Weights of a network that expected less of a face: what is new is expected to be 0."""
    more = net.dims.n_out - len(kept["motion.2.bias"])
    bias, weight = (kept[f"motion.2.{name}"] for name in ("bias", "weight"))
    last = {
        "motion.2.bias": nn.functional.pad(bias, (0, more)),
        "motion.2.weight": nn.functional.pad(weight, (0, 0, 0, 0, 0, more)),
    }
    return kept | last


class SpeechLoss(nn.Module):
    """Face, speed, closure, teacher, voice and matching losses of a batch."""

    metric: Tensor
    lips: Tensor

    def __init__(self, measures: Measures, dims: SpeechDims, options: SpeechOptions) -> None:
        super().__init__()
        self.register_buffer("metric", torch.from_numpy(measures.metric), persistent=False)
        self.register_buffer("lips", torch.from_numpy(measures.lips), persistent=False)
        self.first, self.options = dims.past, options
        self.see = nn.Sequential(
            nn.Conv1d(N_LIPS, 64, 7, padding=3),
            nn.ReLU(),
            nn.Conv1d(64, dims.n_match, 3, padding=1),
        )

    def forward(self, net: SpeechEncoder, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss parts by name; ``total`` is what training minimises."""
        hidden = net.hidden(batch["features"]) if "features" in batch else self._some(batch)
        part = slice(self.first, self.first + hidden.shape[2])
        mask, teacher, motion, voice, piece = (
            batch[k][:, part] for k in ("mask", "teacher", "motion", "voice", "piece")
        )
        seen = mask[..., 0]
        away = (net.teacher(hidden).float().transpose(1, 2) - teacher).square().mean(-1)
        heard = nn.functional.binary_cross_entropy_with_logits(
            net.voice(hidden)[:, 0].float(), voice, reduction="none"
        )
        out = self._face(net.motion(hidden).float().transpose(1, 2), motion, mask[..., 1], piece)
        out["teacher"] = (away * seen).sum() / seen.sum().clamp(min=1)
        out["voice"] = (heard * mask[..., 2]).sum() / mask[..., 2].sum().clamp(min=1)
        out["match"] = self._match(net.match(hidden).float(), motion, mask[..., 1] * voice)
        out["total"] = (
            out["face"]
            + self.options.agree_weight * out["disagreement"]
            + self.options.teacher_weight * out["teacher"]
            + 0.2 * out["voice"]
            + self.options.match_weight * out["match"]
        )
        return out

    def _some(self, batch: dict[str, Tensor]) -> Tensor:
        """Hidden features that are known; in training some are left out."""
        hidden = batch["hidden"]
        return nn.functional.dropout1d(hidden, DROPPED) if self.training else hidden

    def _face(self, made: Tensor, real: Tensor, mask: Tensor, piece: Tensor) -> dict[str, Tensor]:
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
        return {
            "face": shape + lips + 0.5 * speed,
            "lips": lips,
            "speed": speed,
            "disagreement": disagreement(lips_made, lips_real, mask, piece),
        }

    def _match(self, heard: Tensor, motion: Tensor, mask: Tensor) -> Tensor:
        """InfoNCE over every fifth frame of all rows, both ways."""
        seen = self.see((motion @ self.lips).transpose(1, 2)).float()
        codes = [
            nn.functional.normalize(c[:, :, ::5].transpose(1, 2).flatten(0, 1), dim=1)
            for c in (heard, seen)
        ]
        usable = mask[:, ::5].flatten() > 0.5
        near = 10.0 * codes[0][usable] @ codes[1][usable].T
        if not len(near):
            return near.sum()
        own = torch.arange(len(near), device=near.device)
        both = nn.functional.cross_entropy(near, own) + nn.functional.cross_entropy(near.T, own)
        return both / 2


def load_encoder(path: Path) -> SpeechEncoder:
    """The network of a checkpoint, ready to run."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    sizes = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in state["dims"].items()}
    net = SpeechEncoder(SpeechDims(**sizes))
    net.load_state_dict(state["net"])
    return net.eval()
