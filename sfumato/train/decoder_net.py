"""Both networks of one kind of patch, as they are trained together."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.geometry.patches import MOUTH, Patch
from sfumato.models.decoder import Inside, PatchNet, PhotoNet, compose
from sfumato.train.decoder_data import Batch


class Decoder(nn.Module):
    """Both networks of one kind of patch, as they are trained; of the mouth, :class:`Inside`."""

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        self.photo = PhotoNet(patch)
        self.patch = PatchNet(patch)
        self.inside = Inside(patch) if patch is MOUTH else None

    def code(self, batch: Batch) -> Tensor | None:
        """What real frames show and landmarks do not say, (2 B, CODE); None of eyes and face."""
        return self.inside(batch.real, batch.masks[:, :1]) if self.inside is not None else None

    def forward(self, batch: Batch, code: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (2 B, 3, Z H, Z W), flow and mixed, see :class:`PatchNet`.

        Args:
            code: (2 B, CODE), what lies inside; without it the typical, as in use.
        """
        # One pass over the photo for both frames of a pair.
        at2, at4, at8 = (torch.cat([f, f]) for f in self.photo(batch.photo))
        if self.inside is not None:
            at8 = at8 + self.inside.added(self.inside.typical[None] if code is None else code)
        view = torch.cat([small(batch.drawn, batch) * 0.5 + 0.5, batch.masks], 1)
        flow, mixed = self.patch(view, batch.shift, at2, at4, at8)
        flow, mixed = flow.float(), mixed.float()
        return compose(batch.drawn, flow, mixed), flow, mixed

    def for_use(self) -> tuple[PhotoNet, PatchNet]:
        """The two networks that ship: what is typical inside is part of the photo's features."""
        photo = copy.deepcopy(self.photo)
        if self.inside is not None:
            photo.out[2].bias.data += self.inside.added(self.inside.typical[None]).flatten()
        return photo, self.patch


def small(picture: Tensor, batch: Batch) -> Tensor:
    """At the density that the networks see."""
    zoom = picture.shape[3] // batch.masks.shape[3]
    return F.avg_pool2d(picture, zoom) if zoom > 1 else picture
