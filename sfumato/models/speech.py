"""The speech encoder: a causal convolution network from log-mel to what a face needs to know.

All convolutions are valid (no padding), so one frame depends on one fixed window of hops. Training
runs over long pieces at once; a stream runs the same layers on the newest frame, with the inputs
that each layer still needs carried along (:meth:`SpeechEncoder.step`). Both compute the same
function.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato.motionfile import N_EXPRESSION, N_INTERIOR
from sfumato.speech import HOPS_PER_FRAME, N_MELS

_STEM_TAPS = 5  # hops
_DOWN_TAPS = 4  # of the two layers that halve the rate


@dataclass(frozen=True)
class SpeechDims:
    """Sizes of the network; they travel with the weights.

    Dilations have three taps each, ``fast`` in half frames, ``slow`` in frames. The first
    ``look_ahead`` slow blocks (dilation 1) look one frame ahead each, all others only back, so that
    the straight path through the network is the current frame.
    """

    n_out: int = N_EXPRESSION + N_INTERIOR
    stem: int = 128
    width_fast: int = 192
    width: int = 256
    fast: tuple[int, ...] = (1, 2)
    slow: tuple[int, ...] = (1, 1, 2, 4, 8, 2, 4, 8)
    look_ahead: int = 2
    n_teacher: int = 96
    n_match: int = 32

    @property
    def window_hops(self) -> int:
        """Hops that one output frame depends on, ``look_ahead`` frames of them in the future."""
        frames = 2 * sum(self.slow) + 1
        halves = 2 * (frames - 1) + _DOWN_TAPS + 2 * sum(self.fast)
        return 2 * (halves - 1) + _DOWN_TAPS + _STEM_TAPS - 1

    @property
    def past(self) -> int:
        """Whole frames before the current one that training must give along."""
        return -(-self.window_hops // HOPS_PER_FRAME) - self.look_ahead - 1


def few(taps: nn.Conv1d, norm: nn.BatchNorm1d | None, x: Tensor) -> Tensor:
    """``norm(taps(x))`` of a few steps x (B, n, C), trained: one product of matrices."""
    (reach,), (stride,), (dilation,) = taps.kernel_size, taps.stride, taps.dilation
    span = x.shape[1] - (reach - 1) * dilation
    parts = [x[:, k * dilation : k * dilation + span : stride] for k in range(reach)]
    weight, bias = taps.weight.permute(0, 2, 1).reshape(taps.out_channels, -1), taps.bias
    if norm is not None:
        assert norm.running_var is not None and norm.running_mean is not None and bias is None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight, bias = weight * scale[:, None], norm.bias - norm.running_mean * scale
    return nn.functional.linear(torch.cat(parts, dim=2), weight, bias)


class Block(nn.Module):
    """Residual unit: three dilated taps, a mixing layer; ``2 * dilation`` steps shorter."""

    def __init__(self, width: int, dilation: int, ahead: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        self.needs, self.ahead = 2 * dilation, ahead
        self.taps = nn.Conv1d(width, width, 3, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.mix = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, n) -> (B, width, n - 2 * dilation)."""
        y = torch.relu(self.norm(self.taps(x)))
        current = x[:, :, self.needs - self.ahead : x.shape[2] - self.ahead]
        return current + self.dropout(self.mix(y))

    def step(self, x: Tensor) -> Tensor:
        """As :meth:`forward` of a trained network, for a few steps (B, n, width)."""
        current = x[:, self.needs - self.ahead : x.shape[1] - self.ahead]
        return current + few(self.mix, None, torch.relu(few(self.taps, self.norm, x)))


class Front(nn.Module):
    """A plain convolution with normalisation; ``needs`` inputs of the past."""

    def __init__(self, inputs: int, width: int, taps: int, stride: int) -> None:
        super().__init__()
        self.needs = taps - stride
        self.taps = nn.Conv1d(inputs, width, taps, stride=stride, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, n) -> (B, width, (n - taps) // stride + 1)."""
        return torch.relu(self.norm(self.taps(x)))

    def step(self, x: Tensor) -> Tensor:
        """As :meth:`forward` of a trained network, for a few steps (B, n, inputs)."""
        return torch.relu(few(self.taps, self.norm, x))


class SpeechEncoder(nn.Module):
    """Log-mel features -> hidden features, what a face is expected to do, and voice.

    ``n_out`` numbers say what is expected: the expression, then what is seen between the lips.

    ``teacher`` and ``match`` serve training alone: features of a speech teacher, and a code that
    agrees with the code of the lips that belong to the sound.
    """

    def __init__(self, dims: SpeechDims) -> None:
        super().__init__()
        self.dims = dims
        ahead = [int(i < dims.look_ahead) for i in range(len(dims.slow))]
        self.layers = nn.ModuleList(
            [Front(N_MELS, dims.stem, _STEM_TAPS, 1)]
            + [Front(dims.stem, dims.width_fast, _DOWN_TAPS, 2)]
            + [Block(dims.width_fast, d) for d in dims.fast]
            + [Front(dims.width_fast, dims.width, _DOWN_TAPS, 2)]
            + [Block(dims.width, d, a) for d, a in zip(dims.slow, ahead, strict=True)]
        )
        self.final = nn.BatchNorm1d(dims.width)
        self.motion = nn.Sequential(
            nn.Conv1d(dims.width, dims.width // 2, 1), nn.ReLU(),
            nn.Conv1d(dims.width // 2, dims.n_out, 1),
        )  # fmt: skip
        self.voice = nn.Conv1d(dims.width, 1, 1)
        self.teacher = nn.Conv1d(dims.width, dims.n_teacher, 1)
        self.match = nn.Conv1d(dims.width, dims.n_match, 1)

    def hidden(self, features: Tensor) -> Tensor:
        """(B, hops, N_MELS) -> (B, width, frames).

        The last frame ends ``look_ahead`` frames before the last hop; frames = whole frames among
        the hops, less ``past`` and ``look_ahead``.
        """
        spare = (features.shape[1] - self.dims.window_hops) % HOPS_PER_FRAME
        x = features[:, spare:].transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return torch.relu(self.final(x))

    def read(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Expected face (B, frames, n_out) and probability of voice (B, frames)."""
        motion: Tensor = self.motion(hidden).transpose(1, 2)
        return motion, torch.sigmoid(self.voice(hidden)[:, 0])

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden features (B, frames, width), expected face and voice as :meth:`read`."""
        hidden = self.hidden(features)
        return hidden.transpose(1, 2), *self.read(hidden)

    @property
    def state_shapes(self) -> list[tuple[int, int]]:
        """Channels and steps of what each layer keeps between the frames of a stream."""
        shapes = []
        for layer in self.layers:
            assert isinstance(layer, (Block, Front))
            shapes.append((layer.taps.in_channels, layer.needs))
        return shapes

    def step(self, features: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        """One frame of a stream.

        Args:
            features: (B, HOPS_PER_FRAME, N_MELS), the newest frame.
            state: (B, n) of the step before; all that the layers keep, flat.

        Returns:
            Hidden features (B, width), expression (B, N_EXPRESSION), interior (B, N_INTERIOR) and
            voice (B,) of the frame ``look_ahead`` frames ago, and the next state.
        """
        # Channels last: a step of the time is a row, and nothing has to be turned round.
        x, kept, start = features, [], 0
        for layer, (channels, needs) in zip(self.layers, self.state_shapes, strict=True):
            old = state[:, start : start + channels * needs].reshape(-1, needs, channels)
            start += channels * needs
            x = torch.cat([old, x], dim=1)
            kept.append(x[:, x.shape[1] - needs :].flatten(1))
            assert isinstance(layer, (Block, Front))
            x = layer.step(x)
        hidden = torch.relu(self.final(x.transpose(1, 2)))
        motion, voice = self.read(hidden)
        face, interior = motion[:, 0, :N_EXPRESSION], motion[:, 0, N_EXPRESSION:]
        return hidden[:, :, 0], face, interior, voice[:, 0], torch.cat(kept, dim=1)
