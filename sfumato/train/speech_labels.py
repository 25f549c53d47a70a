"""Faces for speech that has none: what networks expect from the speech teacher's features.

The teacher heard thousands of hours and its features know sounds apart whatever the voice, so a
network that reads faces off them carries over to new people and languages better than one that
hears only the few people with faces. It looks far to both sides and cannot run live; the speech
encoder learns from it on all the speech there is (distillation). People are cut into folds: nobody
with a tracked face is labelled by a network that saw this face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.train.loop import bfloat16_pays
from sfumato.train.motion_data import Clip
from sfumato.train.motion_targets import Measures
from sfumato.train.speech_losses import disagreement, huber

Array = NDArray[np.float32]

FOLDS = 4
STEPS = 600  # a fold; more measured worse on new people
ROWS, FRAMES = 16, 100
BLEND = 0.5  # share of the expected face in the target of a tracked one: tracks are noisy


Read = Callable[[Tensor], Tensor]
Train = Callable[[Sequence[Clip], Measures, int], Read]


class _Unit(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.taps = nn.Conv1d(width, width, 3, dilation=dilation, padding=dilation)
        self.mix = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(0.25)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.dropout(torch.relu(self.taps(torch.relu(self.norm(x))))))
        return x + y


class Reader(nn.Module):
    """Teacher features (B, T, n) -> expression (B, T, n_out); sees 15 frames to either side."""

    def __init__(self, n_teacher: int, n_out: int, width: int = 192) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout1d(0.1),
            nn.Conv1d(n_teacher, width, 3, padding=1),
            *(_Unit(width, dilation) for dilation in (1, 2, 4, 1, 2, 4)),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Conv1d(width, n_out, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.layers(features.transpose(1, 2)).transpose(1, 2)
        return out


def taught(
    clips: Sequence[Clip], measures: Measures, seed: int = 0, train: Train | None = None
) -> list[Clip]:
    """The clips, those with features of the teacher with expected faces or mixed with them.

    ``train`` makes a reader of clips; :func:`train_reader` if left out.
    """
    seen = [c for c in clips if c.motion is not None and c.teacher is not None]
    if not seen:
        return list(clips)
    people = sorted({c.person for c in seen})
    fold = {person: number % FOLDS for number, person in enumerate(people)}
    readers = []
    for number in range(FOLDS):
        others = [c for c in seen if fold[c.person] != number] or seen
        readers.append((train or train_reader)(others, measures, seed + number))
        print(f"Faces for speech: network {number + 1} of {FOLDS}", flush=True)
    return [_taught(clip, readers, fold.get(clip.person)) for clip in clips]


def train_reader(clips: Sequence[Clip], measures: Measures, seed: int) -> Reader:
    """A network from the teacher's features to the faces of these clips."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    first = clips[0]
    assert first.teacher is not None and first.motion is not None
    net = Reader(first.teacher.shape[1], first.motion.shape[1])
    optimiser = torch.optim.AdamW(net.parameters(), lr=1.5e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.5e-3, STEPS)
    metric, lips = torch.from_numpy(measures.metric), torch.from_numpy(measures.lips)
    chances = np.array([c.weight for c in clips])
    chances = chances / chances.sum()
    half = bfloat16_pays(lambda: deepcopy(net)(_batch(clips, chances, rng)[0]).mean())
    for _ in range(STEPS):
        features, motion, mask, piece = _batch(clips, chances, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            made = net(features)
        error = made.float() - motion
        both = mask[:, 1:] * mask[:, :-1]
        away = huber(error @ metric).mean(-1) + huber(error @ lips).mean(-1)
        loss = (away * mask).sum() / mask.sum()
        speed = (error.diff(dim=1) @ lips).abs().mean(-1)
        loss = loss + 0.5 * (speed * both).sum() / both.sum()
        loss = loss + disagreement(made.float() @ lips, motion @ lips, mask, piece)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()


def _batch(
    clips: Sequence[Clip], chances: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of clips one after the other, their features disturbed: features, faces, mask, piece."""
    first = clips[0]
    assert first.teacher is not None and first.motion is not None
    features = np.zeros((ROWS, FRAMES, first.teacher.shape[1]), np.float32)
    motion = np.zeros((ROWS, FRAMES, first.motion.shape[1]), np.float32)
    mask, piece = np.zeros((2, ROWS, FRAMES), np.float32)
    for row in range(ROWS):
        place = 0
        while place < FRAMES - 10:
            clip = clips[rng.choice(len(clips), p=chances)]
            assert clip.teacher is not None and clip.motion is not None and clip.good is not None
            start = int(rng.integers(0, max(len(clip) - FRAMES, 0) + 1))
            take = min(FRAMES - place, len(clip) - start)
            here, there = slice(place, place + take), slice(start, start + take)
            features[row, here], motion[row, here] = clip.teacher[there], clip.motion[there]
            mask[row, here], piece[row, here] = clip.good[there], place
            place += take + 2
    noise = 0.3 * rng.standard_normal((ROWS, 1, features.shape[2]))
    noise = noise + 0.15 * rng.standard_normal(features.shape)
    disturbed = (features + noise).astype(np.float32)
    return tuple(map(torch.from_numpy, (disturbed, motion, mask, piece)))


def _taught(clip: Clip, readers: Sequence[Read], fold: int | None) -> Clip:
    if clip.teacher is None:
        return clip
    features = torch.from_numpy(np.asarray(clip.teacher, np.float32))[None]
    asked = readers if fold is None else [readers[fold]]
    with torch.no_grad():
        motion = torch.stack([reader(features)[0] for reader in asked]).mean(0).numpy()
    if clip.motion is not None and clip.good is not None:
        blend = BLEND * motion + (1.0 - BLEND) * clip.motion
        motion = np.where(clip.good[:, None], blend, motion)
    return replace(clip, motion=motion.astype(np.float32), good=np.ones(len(motion), bool))
