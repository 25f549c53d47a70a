"""The networks of the face encoder. Tensors in, tensors out.

Letters: B batch, H W pixels. Pictures are float32 (B, 3, H, W), RGB in [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.models.layers import ConvBlock, Residual

N_LANDMARKS = 478
LANDMARK_SIDE = 128
MATTE_SIDE = 256
# The detector looks at cells of this many pixels; one cell says "the centre of a face is here".
DETECTOR_STRIDE = 8


class LandmarkNet(nn.Module):
    """Crop of one face -> landmarks and a confidence.

    (B, 3, 128, 128) -> landmarks (B, 478, 3) in crop units (the crop spans [-1, 1], z on the same
    scale) and the logit (B,) of "this crop shows an upright face that fits".
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvBlock(3, 24, 2),
            ConvBlock(24, 48, 2),
            Residual(48),
            ConvBlock(48, 96, 2),
            Residual(96),
            Residual(96),
            ConvBlock(96, 160, 2),
            Residual(160),
            Residual(160),
            ConvBlock(160, 192, 2),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(192 * 16, 320)
        self.head = nn.Linear(320, N_LANDMARKS * 3 + 1)
        # A large first output never recovers from predicting the mean face only.
        nn.init.normal_(self.head.weight, 0, 0.003)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(N_LANDMARKS, 3))

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        out = self.head(F.leaky_relu(self.hidden(self.features(crop)), 0.1))
        out = out.float()  # half precision would quantise positions to a quarter of a pixel
        landmarks = self.mean + out[:, :-1].reshape(-1, N_LANDMARKS, 3)
        return landmarks, out[:, -1]


class DetectorNet(nn.Module):
    """Picture of any size (multiples of 32) -> one row of numbers per 8x8 cell.

    (B, 3, H, W) -> (B, 6, H/8, W/8): score logit, centre offset x and y in cells, log2 of the face
    size in cells, and the direction of the eye line (cos, sin). Centres as in CenterNet
    (Zhou et al. 2019, "Objects as Points").
    """

    def __init__(self) -> None:
        super().__init__()
        self.down8 = nn.Sequential(
            ConvBlock(3, 16, 2),
            ConvBlock(16, 32, 2),
            Residual(32),
            ConvBlock(32, 64, 2),
            Residual(64),
        )
        self.down16 = nn.Sequential(ConvBlock(64, 96, 2), Residual(96))
        self.down32 = nn.Sequential(ConvBlock(96, 128, 2), Residual(128), Residual(128))
        self.up16 = nn.Conv2d(128, 96, 1)
        self.merge16 = ConvBlock(96, 64)
        self.merge8 = ConvBlock(64, 64)
        self.head = nn.Conv2d(64, 6, 1)
        nn.init.constant_(self.head.bias[:1], -4.0)

    def forward(self, picture: Tensor) -> Tensor:
        at8 = self.down8(picture)
        at16 = self.down16(at8)
        at32 = self.down32(at16)
        at16 = self.merge16(at16 + F.interpolate(self.up16(at32), scale_factor=2.0))
        return self.head(self.merge8(at8 + F.interpolate(at16, scale_factor=2.0)))


class MatteNet(nn.Module):
    """Square around a head -> logits of the person matte: (B, 3, 256, 256) -> (B, 1, 128, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.down2 = ConvBlock(3, 16, 2)
        self.down4 = nn.Sequential(ConvBlock(16, 32, 2), Residual(32))
        self.down8 = nn.Sequential(ConvBlock(32, 48, 2), Residual(48))
        self.down16 = nn.Sequential(ConvBlock(48, 80, 2), Residual(80))
        self.down32 = nn.Sequential(ConvBlock(80, 112, 2), Residual(112), Residual(112))
        self.up16 = nn.Conv2d(112, 80, 1)
        self.up8 = nn.Conv2d(80, 48, 1)
        self.up4 = nn.Conv2d(48, 32, 1)
        self.up2 = nn.Conv2d(32, 16, 1)
        self.merge16 = ConvBlock(80, 80)
        self.merge8 = ConvBlock(48, 48)
        self.merge4 = ConvBlock(32, 32)
        self.merge2 = ConvBlock(16, 16)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, picture: Tensor) -> Tensor:
        at2 = self.down2(picture)
        at4 = self.down4(at2)
        at8 = self.down8(at4)
        at16 = self.down16(at8)
        x = self.merge16(at16 + F.interpolate(self.up16(self.down32(at16)), scale_factor=2.0))
        x = self.merge8(at8 + F.interpolate(self.up8(x), scale_factor=2.0))
        x = self.merge4(at4 + F.interpolate(self.up4(x), scale_factor=2.0))
        x = self.merge2(at2 + F.interpolate(self.up2(x), scale_factor=2.0))
        return self.head(x)


class DetailNet(nn.Module):
    """Crop of one eye or of the lips -> where its points are.

    (B, 3, side, side) -> (B, n_points, 2) in crop units (the crop spans [-1, 1]).
    """

    def __init__(self, side: int, n_points: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvBlock(3, 16, 2),
            ConvBlock(16, 32, 2),
            Residual(32),
            ConvBlock(32, 64, 2),
            Residual(64),
            ConvBlock(64, 64, 2),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(64 * (side // 16) ** 2, 128)
        self.head = nn.Linear(128, 2 * n_points)
        nn.init.normal_(self.head.weight, 0, 0.003)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(n_points, 2))

    def forward(self, crop: Tensor) -> Tensor:
        out = self.head(F.leaky_relu(self.hidden(self.features(crop)), 0.1))
        return self.mean + out.float().reshape(-1, *self.mean.shape)
