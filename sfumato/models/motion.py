"""The first motion network: a temporal convolution network from speech features to expression.

All convolutions are valid (no padding), so one frame depends on one fixed window of hops and
training on long pieces, streaming and offline compute the same function.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato.speech import HOPS_PER_FRAME, N_MELS

STEM_HOPS = 5  # taps of the first convolution, in hops


@dataclass(frozen=True)
class MotionDims:
    """Sizes of the network; they travel with the weights.

    ``dilations`` is in frames, three taps each; ``look_ahead`` counts the frames after the current
    one that the window holds. The first blocks look to both sides until that many are used up, the
    others only back, so that the straight path through the network is the current frame.
    """

    n_out: int
    width: int = 192
    stem: int = 128
    dilations: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    look_ahead: int = 4
    n_teacher: int = 96

    @property
    def context(self) -> int:
        """Frames of the window besides the current one."""
        return 2 * sum(self.dilations)

    @property
    def ahead(self) -> tuple[int, ...]:
        """Frames that each block looks ahead; together ``look_ahead``."""
        left, out = self.look_ahead, []
        for dilation in self.dilations:
            out.append(dilation if dilation <= left else 0)
            left -= out[-1]
        return tuple(out)

    @property
    def window_hops(self) -> int:
        """Hops that one output frame needs."""
        return (self.context + 1) * HOPS_PER_FRAME + STEM_HOPS - 1


class Block(nn.Module):
    """Residual unit: three dilated taps, a mixing layer; ``2 * dilation`` frames shorter."""

    def __init__(self, width: int, dilation: int, ahead: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.past, self.ahead = 2 * dilation - ahead, ahead
        self.taps = nn.Conv1d(width, width, 3, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.mix = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, n) -> (B, width, n - 2 * dilation)."""
        y = torch.relu(self.norm(self.taps(x)))
        current = x[:, :, self.past : x.shape[2] - self.ahead]
        return current + self.dropout(self.mix(y))


class MotionNet(nn.Module):
    """Speech features -> expression and voice, with a training-only head for teacher features."""

    def __init__(self, dims: MotionDims) -> None:
        super().__init__()
        self.dims = dims
        self.stem = nn.Sequential(
            nn.Conv1d(N_MELS, dims.stem, STEM_HOPS, bias=False),
            nn.BatchNorm1d(dims.stem),
            nn.ReLU(),
            nn.Conv1d(dims.stem, dims.width, HOPS_PER_FRAME, stride=HOPS_PER_FRAME),
        )
        self.blocks = nn.Sequential(
            *(Block(dims.width, d, a) for d, a in zip(dims.dilations, dims.ahead, strict=True))
        )
        self.final = nn.Sequential(nn.BatchNorm1d(dims.width), nn.ReLU())
        self.motion = nn.Sequential(
            nn.Conv1d(dims.width, dims.width // 2, 1), nn.ReLU(),
            nn.Conv1d(dims.width // 2, dims.n_out, 1),
        )  # fmt: skip
        self.voice = nn.Conv1d(dims.width, 1, 1)
        self.teacher = nn.Conv1d(dims.width, dims.n_teacher, 1)

    def trunk(self, features: Tensor) -> Tensor:
        """(B, hops, N_MELS) -> (B, width, frames); hops = 4 * (frames + context) + 4."""
        out: Tensor = self.final(self.blocks(self.stem(features.transpose(1, 2))))
        return out

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Expression (B, frames, n_out) and probability of voice (B, frames)."""
        hidden = self.trunk(features)
        motion: Tensor = self.motion(hidden).transpose(1, 2)
        return motion, torch.sigmoid(self.voice(hidden)[:, 0])
