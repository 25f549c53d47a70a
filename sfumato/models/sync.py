"""Two small networks that know which sound and which motion belong together (after SyncNet).

Both look before and after a frame and answer one unit vector for it; where sound and motion were
made together, the vectors point the same way (Chung and Zisserman, "Out of time", 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MARGIN = 8  # frames at both ends of a clip that have no answer: as far as the networks look


@dataclass(frozen=True)
class SyncDims:
    """Sizes, stored beside the weights.

    Attributes:
        n_motion: numbers of a frame of motion.
        n_mels: bands of the sound, four spectra a frame.
        sound, motion: channels inside.
        embedding: length of the answers.
        drop: share of channels dropped in training.
    """

    n_motion: int
    n_mels: int = 64
    sound: int = 144
    motion: int = 96
    embedding: int = 96
    drop: float = 0.2


class _Layer(nn.Module):
    """A convolution over five frames beside an identity: (B, C, T) -> (B, C, T - 4)."""

    def __init__(self, channels: int, drop: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 5)
        self.norm = nn.BatchNorm1d(channels)
        self.drop = nn.Dropout1d(drop)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x[..., 2:-2] + self.drop(F.gelu(self.norm(self.conv(x))))
        return changed


class SyncNet(nn.Module):
    """Motion and sound to unit vectors.

    Input of :meth:`forward`: motion (B, T, n_motion), sound (B, 4 T, n_mels) as
    ``sfumato.speech.features`` gives it. Output: twice (B, T - 2 MARGIN, embedding). Nothing is
    padded: the distance from the end of a clip, which both could see, would give the answer away.
    """

    def __init__(self, dims: SyncDims) -> None:
        super().__init__()
        self.dims = dims
        self.register_buffer("mean", torch.zeros(dims.n_motion))
        self.register_buffer("spread", torch.ones(dims.n_motion))
        self.enter = nn.Conv1d(dims.n_motion, dims.motion, 5)
        self.moving = nn.Sequential(*(_Layer(dims.motion, dims.drop) for _ in range(3)))
        self.shown = nn.Conv1d(dims.motion, dims.embedding, 1)
        first = dims.sound // 2
        # Its answer i is centred on the four hops of frame i + 2, as that of ``enter``.
        self.hear = nn.Sequential(
            nn.Conv1d(dims.n_mels, first, 5),
            nn.BatchNorm1d(first),
            nn.GELU(),
            nn.Conv1d(first, dims.sound, 6, stride=2),
            nn.BatchNorm1d(dims.sound),
            nn.GELU(),
            nn.Conv1d(dims.sound, dims.sound, 6, stride=2),
            nn.BatchNorm1d(dims.sound),
            nn.GELU(),
        )
        self.heard = nn.Sequential(*(_Layer(dims.sound, dims.drop) for _ in range(3)))
        self.said = nn.Conv1d(dims.sound, dims.embedding, 1)
        self.sharpness = nn.Parameter(torch.tensor(2.5))

    def seen(self, motion: Tensor) -> Tensor:
        """Unit vectors (B, T - 2 MARGIN, embedding) of motion (B, T, n_motion)."""
        x = ((motion - self.mean) / self.spread).transpose(1, 2)
        x = self.shown(self.moving(F.gelu(self.enter(x))))
        return F.normalize(x.transpose(1, 2), dim=-1)

    def forward(self, motion: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
        said = self.said(self.heard(self.hear(sound.transpose(1, 2)))).transpose(1, 2)
        return self.seen(motion), F.normalize(said, dim=-1)
