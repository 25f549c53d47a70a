"""Networks that were exported teach others, of another size: knowledge distillation.

What real frames show beside what a network could know (the tracker's errors, skin that bends) is
noise to a pupil; a teacher's answer has none of it (Hinton et al. 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.engine import Network
from sfumato.geometry.patches import Patch
from sfumato.models.decoder import compose
from sfumato.train.decoder_data import Batch
from sfumato.train.decoder_export import fed
from sfumato.train.decoder_loss import gradients

_FLOW = 0.05  # for every pixel of flow that differs
_MIXED = 0.5


@dataclass(frozen=True)
class Teacher:
    """The exported pair of one kind of patch.

    Attributes:
        patch: its kind.
        photo, frame: ``decoder_<patch>_photo.onnx`` and ``decoder_<patch>.onnx``.
    """

    patch: Patch
    photo: Network
    frame: Network

    @staticmethod
    def load(patch: Patch, folder: Path) -> Teacher:
        """From a folder of networks.

        Raises:
            InputError: There are none, or they are broken.
        """
        name = f"decoder_{patch.name}"
        return Teacher(
            patch, Network(folder / f"{name}_photo.onnx"), Network(folder / f"{name}.onnx")
        )

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Flow and mixed of all frames, see :class:`sfumato.models.decoder.PatchNet`."""
        photos, first, rest = fed(batch, self.patch)
        known = [np.concatenate([f, f]) for f in self.photo(photos)]
        flow, mixed = map(torch.from_numpy, self.frame(*first.values(), *known, *rest.values()))
        keep = mixed[:, :1]
        mixed = torch.cat([keep, mixed[:, 1:] / 127.5 - 1 + keep], 1)
        return flow.to(batch.drawn), mixed.to(batch.drawn)


def apart(
    made: tuple[Tensor, Tensor, Tensor], taught: tuple[Tensor, Tensor], batch: Batch, weight: Tensor
) -> Tensor:
    """How far frames, flow and mixed (see ``decoder_net``) are from what a teacher says: a number.

    Args:
        weight: (2 B, 1, H, W) of every place, mean 1.
    """
    out, flow, mixed = made
    wanted = compose(batch.drawn, *taught)
    slope = (gradients(out) - gradients(wanted)).abs() * weight[:, :, 1:, 1:]
    return (
        ((out - wanted).abs() * weight).mean()
        + slope.mean()
        + _FLOW * (flow - taught[0]).abs().mean()
        + _MIXED * ((mixed - taught[1]).abs() * weight).mean()
    )
