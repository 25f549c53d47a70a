"""Lips and lids of what a decoder makes must be where they are in the real frame.

The judge is the close look that tracks faces in the product (:mod:`sfumato.details`): pictures may
be a little off in colour and light and nobody minds; lips that do not meet are seen by everybody.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.details import EYES, LIPS
from sfumato.geometry import patches
from sfumato.geometry.patches import EYE_DISTANCE, Patch
from sfumato.models.face import DetailNet
from sfumato.train.decoder_loss import FaceFeatures
from sfumato.train.face_details import gaps
from sfumato.train.shipped import filled

_DETAILS = {patches.MOUTH: LIPS, patches.EYES: EYES}
_SHIFT, _ZOOM, _TURN = 0.02, 0.05, 0.06  # how the look strays, of its side, of 1 and in radians


class PointJudge(nn.Module):
    """How far apart the points of two pictures of a patch are: of lips and mouth, or of an eye."""

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        self.detail = _DETAILS[patch]
        network = DetailNet(self.detail.pixels, len(self.detail.points))
        self.network = filled(network, f"face_{self.detail.name}.onnx")
        self.register_buffer("opposite", gaps(self.detail))
        self.iris = [self.detail.points.tolist().index(468)] if self.detail.mirrored else []

    def distance(self, made: Tensor, real: Tensor, masks: Tensor) -> Tensor:
        """Mean distance of points, of openings and of irises, in eye distances: a number.

        Both pictures are looked at through the same, slightly strayed, squares, so that there is no
        pattern to be painted that only one look falls for.

        Args:
            made, real: (B, 3, H, W) in [-1, 1].
            masks: (B, 2, H, W), see :func:`sfumato.geometry.patches.masks`.
        """
        looks = self._looks(masks)
        with torch.no_grad():
            wanted = self._points(real, looks)
        apart = (self._points(made, looks) - wanted) * (self.detail.reach / 2)
        openings = apart[:, self.opposite[:, 0]] - apart[:, self.opposite[:, 1]]
        parts = [apart, openings] + ([apart[:, self.iris]] if self.iris else [])
        # Near L1 beyond a fifth of a pixel of the patch.
        return torch.stack([torch.sqrt(p**2 + 1e-6).mean() for p in parts]).sum()

    def _points(self, picture: Tensor, looks: Tensor) -> Tensor:
        side = self.detail.pixels
        grid = F.affine_grid(looks, [len(picture), 3, side, side], align_corners=False)
        crop = F.grid_sample(picture, grid, "bilinear", "border", align_corners=False)
        return torch.as_tensor(self.network(crop)).float()

    def _looks(self, masks: Tensor) -> Tensor:
        """Affine maps (B, 2, 3) from the crop's coordinates to the patch's, both in [-1, 1]."""
        count, _, height, width = masks.shape
        half = self.detail.reach * EYE_DISTANCE / 2
        middle = masks.new_tensor([width / 2, height / 2]).expand(count, 2)
        if not self.detail.mirrored:  # eyes lie in the middle of their patch, lips where they are
            middle = _middle(masks[:, 1])
        noise = torch.randn(count, 4, device=masks.device)
        middle = middle + 2 * half * _SHIFT * noise[:, :2]
        reach, turn = half * torch.exp(_ZOOM * noise[:, 2]), _TURN * noise[:, 3]
        cos, sin = reach * torch.cos(turn), reach * torch.sin(turn)
        rows = torch.stack([cos, -sin, middle[:, 0], sin, cos, middle[:, 1]], 1).reshape(-1, 2, 3)
        to_unit = 2 / masks.new_tensor([width, height])
        offset = masks.new_tensor([[0.0, 0.0, 1.0]])
        return rows * to_unit[:, None] - offset


def _middle(mask: Tensor) -> Tensor:
    """Centre (B, 2) of masks (B, H, W), pixels; of the picture where a mask is empty."""
    weight = mask + 1e-6
    y = torch.arange(mask.shape[1], device=mask.device) + 0.5
    x = torch.arange(mask.shape[2], device=mask.device) + 0.5
    whole = weight.sum((1, 2))
    return torch.stack([(weight.sum(1) * x).sum(1) / whole, (weight.sum(2) * y).sum(1) / whole], 1)


class Judges(nn.Module):
    """What looks at the pictures of a decoder and does not learn."""

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        self.features = FaceFeatures()
        self.points = PointJudge(patch)
