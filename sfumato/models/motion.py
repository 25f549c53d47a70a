"""The motion generator: a causal transformer over the past, a flow that draws the next frame.

The transformer reads one token a frame: what the face did up to the frame before, and what is heard
around the frame. From its output a small network draws the frame's motion by flow matching
(Lipman et al. 2023, arXiv 2210.02747), as the diffusion head of MAR does for pictures (Li et al.
2024, arXiv 2406.11838). So training runs over a whole clip in one pass, a live frame waits for no
window to fill, and the costly part runs once a frame however many steps the flow takes. VASA-1
(arXiv 2404.10667) draws windows of many frames instead, which would cost their length in delay.

Blinks and saccades are events: two more outputs say how likely one begins now.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

N_POSE = 6
N_FACE = 38  # expression without the two lids, which blinks and the gaze move
N_GLANCE = 2
N_DRAWN = N_POSE + N_FACE + N_GLANCE
# Past of a frame: pose, its speed now and a frame ago, the face's own part now and on the whole,
# glance, how long ago the last blink and the last saccade were.
N_PAST = 3 * N_POSE + 2 * N_FACE + N_GLANCE + 2
N_EVENTS = 2
N_KINDS = 3  # real, generated, drawn clips: motion is always made as real people's
N_STYLE = 2  # liveliness of the head; how far the past is disturbed, in training alone


@dataclass(frozen=True)
class MotionDims:
    """Sizes of the network; they travel with the weights.

    ``context`` counts the frames that each layer sees, the current one among them; ``n_heard`` the
    speech encoder's hidden features.
    """

    n_heard: int = 256
    width: int = 192
    layers: int = 4
    heads: int = 4
    context: int = 50
    flow_width: int = 224
    flow_blocks: int = 3

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Of the keys and values that a stream carries along, for one condition."""
        return self.layers, 2, self.heads, self.context - 1, self.width // self.heads


class Layer(nn.Module):
    """Attention over the last ``context`` frames, nearer ones first (ALiBi, arXiv 2108.12409)."""

    def __init__(self, dims: MotionDims, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = dims.heads, nn.Dropout(dropout)
        self.scale = (dims.width // dims.heads) ** -0.5
        self.before, self.between = nn.LayerNorm(dims.width), nn.LayerNorm(dims.width)
        self.ask = nn.Linear(dims.width, 3 * dims.width)
        self.answer = nn.Linear(dims.width, dims.width)
        self.think = nn.Sequential(
            nn.Linear(dims.width, 4 * dims.width), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(4 * dims.width, dims.width),
        )  # fmt: skip

    def forward(self, x: Tensor, bias: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One layer.

        Args:
            x: (B, T, width).
            bias: (heads, T, past + T), added to the attention's logits.
            past: keys and values of the frames before, (B, 2, heads, past, width / heads).

        Returns:
            (B, T, width), and keys and values of past and present.
        """
        batch, frames, width = x.shape
        asked = self.ask(self.before(x)).reshape(batch, frames, 3, self.heads, width // self.heads)
        query, known = asked[:, :, 0].transpose(1, 2), asked[:, :, 1:].permute(0, 2, 3, 1, 4)
        if past is not None:
            known = torch.cat([past, known], dim=3)
        weights = query @ known[:, 0].transpose(2, 3) * self.scale + bias
        seen = torch.softmax(weights, dim=-1) @ known[:, 1]
        x = x + self.dropout(self.answer(seen.transpose(1, 2).reshape(batch, frames, width)))
        return x + self.dropout(self.think(self.between(x))), known


class FlowBlock(nn.Module):
    """Residual unit whose scale and shift come from the condition (adaptive layer norm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.set = nn.Linear(width, 3 * width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Both (..., width)."""
        scale, shift, gate = self.set(condition).chunk(3, dim=-1)
        out: Tensor = x + gate * self.mix(self.norm(x) * (1 + scale) + shift)
        return out


class Flow(nn.Module):
    """Velocity of the straight path from noise to motion, given what the transformer says."""

    def __init__(self, dims: MotionDims) -> None:
        super().__init__()
        self.enter = nn.Linear(N_DRAWN, dims.flow_width)
        self.time = nn.Linear(16, dims.flow_width)
        self.given = nn.Linear(dims.width, dims.flow_width)
        self.blocks = nn.ModuleList(FlowBlock(dims.flow_width) for _ in range(dims.flow_blocks))
        self.leave = nn.Linear(dims.flow_width, N_DRAWN)

    def forward(self, x: Tensor, time: Tensor, given: Tensor) -> Tensor:
        """Velocity at x, both (..., N_DRAWN); time (..., 1) in 0..1, given (..., width)."""
        rates = torch.pi * 2.0 ** torch.arange(-1, 7, dtype=torch.float32, device=x.device)
        waves = torch.cat([torch.sin(time * rates), torch.cos(time * rates)], dim=-1)
        condition = torch.relu(self.given(given) + self.time(waves))
        hidden = self.enter(x)
        for block in self.blocks:
            hidden = block(hidden, condition)
        out: Tensor = self.leave(hidden)
        return out


class MotionNet(nn.Module):
    """Transformer, flow and events together."""

    def __init__(self, dims: MotionDims, dropout: float = 0.15) -> None:
        super().__init__()
        self.dims = dims
        self.past = nn.Linear(N_PAST, dims.width)
        self.heard = nn.Linear(dims.n_heard + N_FACE + 2, dims.width)  # and whether it is given
        self.style = nn.Linear(N_KINDS + N_STYLE, dims.width)
        self.layers = nn.ModuleList(Layer(dims, dropout) for _ in range(dims.layers))
        self.final = nn.LayerNorm(dims.width)
        self.events = nn.Linear(dims.width, N_EVENTS)
        self.begun = nn.Linear(N_EVENTS, dims.width)
        self.flow = Flow(dims)

    def forward(self, past: Tensor, heard: Tensor, style: Tensor) -> Tensor:
        """What the flow is given, for whole clips.

        Args:
            past: (B, T, N_PAST).
            heard: (B, T, n_heard + N_FACE + 2): features, expected face, voice, 1; zeros where
                nothing is known of the sound.
            style: (B, N_KINDS + N_STYLE).

        Returns:
            (B, T, width).
        """
        x = self.past(past) + self.heard(heard) + self.style(style)[:, None]
        bias = self.nearness(x.shape[1], 0).to(x.device)
        for layer in self.layers:
            x, _ = layer(x, bias)
        out: Tensor = self.final(x)
        return out

    def step(
        self, past: Tensor, heard: Tensor, style: Tensor, state: Tensor, frames: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One frame of a stream: what the flow is given (B, width), and the next state.

        Args:
            past, heard, style: (B, n) each.
            state: (B, *state_shape) of the frame before.
            frames: (1,) number of frames made so far; of the state, only so many are real.
        """
        x = (self.past(past) + self.heard(heard) + self.style(style))[:, None]
        length = self.dims.context - 1
        empty = torch.arange(length + 1) < length - frames
        bias = self.nearness(1, length) - 1e4 * empty.float()
        kept = []
        for number, layer in enumerate(self.layers):
            x, known = layer(x, bias, state[:, number])
            kept.append(known[:, :, :, 1:])
        return self.final(x)[:, 0], torch.stack(kept, dim=1)

    def for_flow(self, given: Tensor, events: Tensor) -> Tensor:
        """What the flow is given, (..., width), once it is known which events (..., 2) begin."""
        out: Tensor = given + self.begun(events)
        return out

    def nearness(self, frames: int, past: int) -> Tensor:
        """Bias of the attention (heads, frames, past + frames)."""
        distance = past + torch.arange(frames)[:, None] - torch.arange(past + frames)
        slopes = 2.0 ** -(torch.arange(self.dims.heads) * 2.0 + 1.0)
        hidden = (distance < 0) | (distance >= self.dims.context)
        return -slopes[:, None, None] * distance - 1e4 * hidden.float()

    def draw(self, noise: Tensor, given: Tensor, steps: int, guidance: Tensor) -> Tensor:
        """Motion (B, N_DRAWN) by Euler's method.

        Args:
            noise: (B, N_DRAWN), where the path begins.
            given: (2 B, width), the second half without sound.
            steps: of the same length.
            guidance: (N_DRAWN,) how far beyond the condition (classifier-free guidance).
        """
        x = noise
        for number in range(steps):
            time = torch.full_like(given[:, :1], number / steps)
            with_sound, without = self.flow(torch.cat([x, x]), time, given).chunk(2)
            speed = with_sound + guidance * (with_sound - without)
            x = x + speed / steps
        return x


def flow_loss(flow: Flow, given: Tensor, motion: Tensor, mask: Tensor, draws: int) -> Tensor:
    """Flow-matching loss of frames.

    Args:
        flow: to be trained.
        given: (n, width).
        motion: (n, N_DRAWN).
        mask: (n, N_DRAWN), which numbers are known.
        draws: of noise and time for every frame.
    """
    given, motion, mask = (a.repeat(draws, 1) for a in (given, motion, mask))
    noise = torch.randn_like(motion)
    time = torch.rand_like(motion[:, :1])
    error = flow((1 - time) * noise + time * motion, time, given) - (motion - noise)
    loss = functional.mse_loss(error.float(), torch.zeros_like(motion), reduction="none")
    return (loss * mask).sum() / mask.sum().clamp(min=1)
