"""What every training of the face encoder shares: pictures to draw from, and what a task is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.train import face_data
from sfumato.train.face_data import Example

BATCH = 32
Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Task:
    """One of the networks: how to make it, a batch for it, and its loss."""

    name: str
    network: Callable[[], nn.Module]
    batch: Callable[[np.random.Generator], Batch]
    loss: Callable[[nn.Module, Batch], Tensor]
    rate: float


class Pictures:
    """Training examples with sampling weights; decodes on demand."""

    def __init__(self, examples: list[Example]) -> None:
        seen = [e for e in examples if np.isfinite(e.landmarks[0, 0])]
        self.examples = [e for e in seen if e.split == "train"]
        frames = sum(e.style == "frame" for e in self.examples)
        # Frames of video together weigh two thirds of the stills.
        share = {"frame": 0.67 * (len(self.examples) - frames) / max(1, frames)}
        weights = [
            share.get(e.style, face_data.STYLE_WEIGHT.get(e.style, 1.0)) for e in self.examples
        ]
        rare = face_data.rarity(face_data.openness(np.array([e.landmarks for e in self.examples])))
        self.weights = np.array(weights) * rare
        self.weights /= self.weights.sum()

    def draw(self, rng: np.random.Generator) -> Example:
        return self.examples[int(rng.choice(len(self.examples), p=self.weights))]

    def some(self, count: int, rng: np.random.Generator) -> list[Example]:
        return [self.draw(rng) for _ in range(count)]

    def only(self, usable: Callable[[Example], bool]) -> Pictures:
        """Those that are usable, with their weights anew."""
        return Pictures([e for e in self.examples if usable(e)])


def to_input(images: list[np.ndarray]) -> Tensor:
    """uint8 pictures (H, W, 3) -> (B, 3, H, W) float32 in [-1, 1], channels last in memory."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return (stacked.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
