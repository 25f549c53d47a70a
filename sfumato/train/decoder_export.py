"""The decoder's trained networks as ONNX files that take and give what a program has."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.geometry.patches import MOUTH, Patch
from sfumato.models.decoder import SHIFT_UNIT, PatchNet, PhotoNet
from sfumato.train.decoder_data import Batch
from sfumato.train.decoder_net import own
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
        self,
        view: Tensor,
        shift: Tensor,
        *known: Tensor,
    ) -> tuple[Tensor, Tensor]:
        shift = shift.permute(0, 3, 1, 2) / SHIFT_UNIT
        flow, keep, add = self.network.parts(view, shift, *known)
        # keep * (i / 127.5 - 1) + add in [-1, 1] is keep * i + 127.5 (1 - keep + add) in 0..255.
        return flow, torch.cat([keep, 127.5 * (1 - keep + add)], 1)


def _bytewise(network: Net) -> Net:
    """A copy that takes pictures 0..255 instead of 0..1."""
    changed = copy.deepcopy(network).cpu().eval()
    first = next(m for m in changed.down2.modules() if isinstance(m, nn.Conv2d))
    first.weight.data /= 255
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
    views, feeds = _inputs(batch, patch, photo)
    export_onnx(
        _Photo(photo),
        torch.from_numpy(views[:1]),
        folder / f"decoder_{patch.name}_photo.onnx",
        names=("view",),
    )
    path = folder / f"decoder_{patch.name}.onnx"
    inputs = tuple(map(torch.from_numpy, feeds[0].values()))
    export_onnx(_Frame(network), inputs, path, names=tuple(feeds[0]), half=False)
    # What meets pictures stays exact, and all that makes the answer.
    return quantise(path, feeds, exact=("/down2/own/", "/shift/"), towards="/answer/")


def _inputs(batch: Batch, patch: Patch, photo: PhotoNet) -> tuple[Array, list[dict[str, Array]]]:
    """Photos (B, 5, H, W) 0..255, and what the exported :class:`_Frame` is fed for first frames."""
    count = len(batch.photo)
    photos, first, rest = fed(batch, patch)
    with torch.no_grad():
        known = [f.numpy() for f in photo(torch.from_numpy(photos))]
    feed = first | dict(zip(("at2", "at4", "at8"), known, strict=True)) | rest
    return photos, [{k: v[i : i + 1] for k, v in feed.items()} for i in range(count)]


def fed(batch: Batch, patch: Patch) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """What exported networks are fed for a batch.

    Returns:
        Photos (B, 5, H, W) 0..255, and of all 2 B frames the inputs before and after the photo's
        features, by name.
    """
    first = {
        "view": torch.cat([batch.drawn * 127.5 + 127.5, batch.masks * 255], 1),
        "shift": (batch.shift * SHIFT_UNIT).permute(0, 2, 3, 1),
    }
    rest = {"interior": batch.interior, "own": own(batch) * 255} if patch is MOUTH else {}
    return _array(batch.photo * 255), _arrays(first), _arrays(rest)


def _arrays(values: dict[str, Tensor]) -> dict[str, Array]:
    return {name: _array(value) for name, value in values.items()}


def _array(value: Tensor) -> Array:
    return np.ascontiguousarray(value.cpu().numpy(), np.float32)
