"""The decoder's trained networks as ONNX files that take and give what a program has."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.geometry.patches import Patch
from sfumato.models.decoder import SHIFT_UNIT, PatchNet, PhotoNet
from sfumato.train.decoder_data import Batch
from sfumato.train.export import export_onnx, quantise

Array = NDArray[np.float32]
Net = TypeVar("Net", PhotoNet, PatchNet)


class _Photo(nn.Module):
    """:class:`PhotoNet` on pictures 0..255."""

    def __init__(self, network: PhotoNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.network(view)


class _Frame(nn.Module):
    """:class:`PatchNet` on pictures 0..255; shifts in patch pixels have their two channels last.

    The frame is ``keep * warped + add`` in 0..255.
    """

    def __init__(self, network: PatchNet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, view: Tensor, shift: Tensor, at2: Tensor, at4: Tensor, at8: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift = shift.permute(0, 3, 1, 2) / SHIFT_UNIT
        flow, mixed = self.network(view, shift, at2, at4, at8)
        keep, add = mixed[:, :1], mixed[:, 1:]
        # keep * (i / 127.5 - 1) + add in [-1, 1] is keep * i + 127.5 (1 - keep + add) in 0..255.
        mixed = torch.cat([keep, 127.5 * (1 - keep + add)], 1)
        return flow, mixed


def _bytewise(network: Net) -> Net:
    """A copy that takes pictures 0..255 instead of 0..1."""
    changed = copy.deepcopy(network).cpu().eval()
    changed.down2[0].weight.data /= 255
    return changed


def export_decoder(
    photo: PhotoNet, network: PatchNet, patch: Patch, batch: Batch, folder: Path
) -> list[float]:
    """Write ``decoder_<patch>_photo.onnx`` (half floats) and ``decoder_<patch>.onnx`` (8 bits).

    Args:
        batch: pairs by which the ranges of the layers are measured.

    Returns:
        Mean errors of the 8 bits: of the flow in patch pixels, of keep and add together (0..255).
    """
    photo, network = _bytewise(photo), _bytewise(network)
    network.white = 255.0
    views, frames, shifts = _inputs(batch)
    with torch.no_grad():
        known = photo(torch.from_numpy(views))
    examples = (frames[:1], shifts[:1], *(k[:1].numpy() for k in known))
    export_onnx(
        _Photo(photo),
        torch.from_numpy(views[:1]),
        folder / f"decoder_{patch.name}_photo.onnx",
        names=("view",),
    )
    path, names = folder / f"decoder_{patch.name}.onnx", ("view", "shift", "at2", "at4", "at8")
    inputs = tuple(torch.from_numpy(e) for e in examples)
    export_onnx(_Frame(network), inputs, path, names=names, half=False)
    feeds = [
        dict(
            zip(
                names,
                (frame[None], shift[None], *(k[i : i + 1].numpy() for k in known)),
                strict=True,
            )
        )
        for i, (frame, shift) in enumerate(zip(frames, shifts, strict=True))
    ]
    # What meets pictures, and the last layers and sums, which are the answer.
    exact = ("down2.0", "/shift/", "/answer/", "/shade/", "/network/Add_4/", "^/Add/")
    return quantise(path, feeds, exact)


def _inputs(batch: Batch) -> tuple[Array, Array, Array]:
    """Photos, first frames (B, 5, H, W) 0..255 and shifts (B, H / 4, W / 4, 2) in patch pixels."""
    count = len(batch.photo)
    small = F.interpolate(batch.drawn[:count], batch.photo.shape[2:], mode="area")
    frames = torch.cat([small * 127.5 + 127.5, batch.masks[:count] * 255], 1)
    shifts = (batch.shift[:count] * SHIFT_UNIT).permute(0, 2, 3, 1)
    return tuple(np.ascontiguousarray(t.numpy()) for t in (batch.photo * 255, frames, shifts))
