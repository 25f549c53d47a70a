"""The decoder's trained networks as ONNX files that take and give what a program has."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.geometry.patches import SHIFT_STEP, Patch
from sfumato.models.decoder import SHIFT_UNIT, PatchNet, PhotoNet
from sfumato.train.export import export_onnx


class _Photo(nn.Module):
    """:class:`PhotoNet` on pictures 0..255 with the channels last."""

    def __init__(self, network: PhotoNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.network(_first(view))


class _Frame(nn.Module):
    """:class:`PatchNet` on pictures 0..255 with the channels last; so is its answer.

    The frame is ``keep * warped + add`` in 0..255.
    """

    def __init__(self, network: PatchNet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, view: Tensor, shift: Tensor, at2: Tensor, at4: Tensor, at8: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift = shift.permute(0, 3, 1, 2) / SHIFT_UNIT
        flow, mixed = self.network(_first(view), shift, at2, at4, at8)
        keep, add = mixed[:, :1], mixed[:, 1:]
        # keep * (i / 127.5 - 1) + add in [-1, 1] is keep * i + 127.5 (1 - keep + add) in 0..255.
        mixed = torch.cat([keep, 127.5 * (1 - keep + add)], 1)
        return flow.permute(0, 2, 3, 1), mixed.permute(0, 2, 3, 1)


def _first(view: Tensor) -> Tensor:
    return view.permute(0, 3, 1, 2)


def _bytewise(network: PhotoNet | PatchNet) -> PhotoNet | PatchNet:
    """A copy that takes pictures 0..255 instead of 0..1."""
    changed = copy.deepcopy(network).cpu().eval()
    changed.down2[0].weight.data /= 255
    return changed


def export_decoder(photo: PhotoNet, network: PatchNet, patch: Patch, folder: Path) -> float:
    """Write ``decoder_<patch>_photo.onnx`` and ``decoder_<patch>.onnx``; largest error of both."""
    height, width = patch.height, patch.width
    view = torch.rand(1, height, width, 5) * 255
    shift = torch.zeros(1, height // SHIFT_STEP, width // SHIFT_STEP, 2)
    photo, network = _bytewise(photo), _bytewise(network)
    with torch.no_grad():
        known = photo(_first(view))
    errors = (
        export_onnx(
            _Photo(photo), view, folder / f"decoder_{patch.name}_photo.onnx", names=("view",)
        ),
        export_onnx(
            _Frame(network),
            (view, shift, *known),
            folder / f"decoder_{patch.name}.onnx",
            names=("view", "shift", "at2", "at4", "at8"),
        ),
    )
    return max(errors)
