"""What the decoder's training minimises: nearness, sharpness, steadiness, and a critic."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from sfumato.models.face import LandmarkNet
from sfumato.train.shipped import filled

_LAYERS = (2, 4)  # of the landmark network: strides 4 and 8


class FaceFeatures(nn.Module):
    """Distance of two pictures as our own landmark network sees them, as LPIPS counts it.

    Features are scaled to unit length at every place (Zhang et al. 2018, eq. 1); no weights are
    learned for the layers.
    """

    def __init__(self) -> None:
        super().__init__()
        features = LandmarkNet().features
        first = nn.ModuleList(list(features)[: _LAYERS[-1] + 1])
        self.stages = filled(first, "face_landmarks.onnx")

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> unit features at 1/4 and 1/8."""
        found = []
        for number, stage in enumerate(self.stages.children()):
            picture = stage(picture)
            if number in _LAYERS:
                found.append(F.normalize(picture.float(), dim=1, eps=1e-3))
        return found

    def distance(self, one: Tensor, two: Tensor) -> Tensor:
        """Mean over pictures and places, summed over layers: a number."""
        pairs = zip(self(one), self(two), strict=True)
        return torch.stack([((a - b) ** 2).sum(1).mean() for a, b in pairs]).sum()


class Critic(nn.Module):
    """Tells real patches from made ones, piece by piece, knowing the photo and what was asked.

    Patch discriminator (Isola et al. 2017) with spectral normalisation (Miyato et al. 2018).
    """

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, 4 if stride == 2 else 3, stride, 1))

        self.layers = nn.ModuleList(
            [layer(8, 32, 2), layer(32, 64, 2), layer(64, 128, 2), layer(128, 128, 1)]
        )
        self.head = spectral_norm(nn.Conv2d(128, 1, 3, 1, 1))

    def forward(self, picture: Tensor, masks: Tensor, photo: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores (B, 1, H/8, W/8), high for real, and the features on the way."""
        x, seen = torch.cat([picture, masks, photo], 1), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            seen.append(x)
        return self.head(x), seen


def gradients(picture: Tensor) -> Tensor:
    """Differences of neighbours to the right and below, (B, 6, H - 1, W - 1)."""
    right = picture[:, :, :-1, 1:] - picture[:, :, :-1, :-1]
    down = picture[:, :, 1:, :-1] - picture[:, :, :-1, :-1]
    return torch.cat([right, down], 1)


def energy(picture: Tensor, where: Tensor) -> Tensor:
    """High-frequency energy (B,): mean square of grey minus its blur, over a mask (B, 1, H, W)."""
    grey = picture.mean(1, keepdim=True)
    ripple = grey - F.avg_pool2d(F.pad(grey, (2, 2, 2, 2), mode="reflect"), 5, 1)
    return (ripple**2 * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp(min=1)
