"""Both networks of one kind of patch, as they are trained together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfumato.geometry.patches import MOUTH, Patch
from sfumato.models.decoder import PatchNet, PhotoNet, compose, own_mouth
from sfumato.train.decoder_data import Batch


class Decoder(nn.Module):
    """Both networks of one kind of patch."""

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        self.photo = PhotoNet()
        self.patch = PatchNet(patch)
        self.listens = patch is MOUTH

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (2 B, 3, H, W), flow and mixed, see :class:`PatchNet`."""
        # One pass over the photo for both frames of a pair.
        known = [torch.cat([f, f]) for f in self.photo(batch.photo)]
        view = torch.cat([batch.drawn * 0.5 + 0.5, batch.masks], 1)
        told = (batch.interior, own(batch)) if self.listens else ()
        flow, mixed = self.patch(view, batch.shift, *known, *told)
        flow, mixed = flow.float(), mixed.float()
        return compose(batch.drawn, flow, mixed), flow, mixed


def own(batch: Batch) -> Tensor:
    """The photos' own mouths, (2 B, 4, H, W), see :func:`own_mouth`."""
    return own_mouth(torch.cat([batch.photo[:, :4]] * 2), batch.shift, batch.masks[:, :1])
