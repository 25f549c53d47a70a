"""Parts of a loss on faces that the speech encoder and its label makers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STILL = 0.05  # spread of a measure below which lips hardly move and agreement means little
OPENING, WIDTH, INTERIOR = 0, 3, 7  # columns of Measures.lips that are held against people's


def huber(x: Tensor) -> Tensor:
    """Square near zero, slope one beyond."""
    return nn.functional.smooth_l1_loss(x, torch.zeros_like(x), reduction="none")


def disagreement(made: Tensor, real: Tensor, mask: Tensor, piece: Tensor) -> Tensor:
    """One minus the correlation of opening, width and interior, mean over pieces by their frames.

    A loss on distances is led by people whose mouths move much, and their width follows the
    opening more than other people's does. Here everybody counts alike.

    Args:
        made, real: (B, T, n) measures of lips.
        mask: (B, T), above 0.75 where ``real`` is known.
        piece: (B, T) number of the clip's piece in its row.
    """
    known = mask > 0.75
    rows = torch.arange(len(piece), device=piece.device)[:, None]
    names = (piece.long() + 1000 * rows)[known]
    if not len(names):
        return made.sum() * 0.0
    number, own, frames = names.unique(return_inverse=True, return_counts=True)[:3]
    frames = frames[:, None].float()

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(len(number), 3).index_add(0, own, values)

    def freed(lips: Tensor) -> Tensor:
        moves = lips[..., [OPENING, WIDTH, INTERIOR]][known].float()
        return moves - (total(moves) / frames)[own]

    a, b = freed(made), freed(real)
    spreads = [(total(x.square()) / frames + _STILL**2).sqrt() for x in (a, b)]
    agreement = total(a * b) / frames / (spreads[0] * spreads[1])
    return 1.0 - (agreement * frames).sum() / (3.0 * frames.sum())
