"""The decoder's networks: what the photo knows (once), and what a frame lacks (every frame).

Letters: B batch, H W patch pixels. One pair of networks for each kind of patch (mouth, eyes);
patches are described in :mod:`sfumato.geometry.patches`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.geometry.patches import EYES, MOUTH, Patch, eye_reach, window
from sfumato.models.layers import ConvBlock, Residual
from sfumato.motionfile import N_INTERIOR

SHIFT_UNIT = 16.0  # patch pixels; the networks see shifts in this unit
_FLOW_UNIT = 8.0  # patch pixels
_FITS = 6.0  # how surely the photo's own mouth is shown where it fits, and hidden where it does not

# Channels at 1/2, 1/4, 1/8 and 1/16 of a patch: multiples of 16 fill the registers of a processor.
CHANNELS = (32, 48, 64, 96)


class PhotoNet(nn.Module):
    """What the photo's own patch says; runs once per portrait.

    (B, 5, H, W) in [0, 1], RGB and two masks -> features at 1/2, 1/4 and 1/8 with
    :data:`CHANNELS` c1, c2, c3: (B, c1, H/2, W/2), (B, c2, H/4, W/4), (B, c3, H/8, W/8).
    """

    def __init__(self) -> None:
        super().__init__()
        self.down2 = ConvBlock(5, 32, 2)
        self.down4 = nn.Sequential(ConvBlock(32, 64, 2), Residual(64))
        self.down8 = nn.Sequential(ConvBlock(64, 96, 2), Residual(96))
        self.down16 = nn.Sequential(ConvBlock(96, 128, 2), Residual(128), Residual(128))
        self.up8 = nn.Conv2d(128, 96, 1)
        self.up4 = nn.Conv2d(96, 64, 1)
        self.up2 = nn.Conv2d(64, 32, 1)
        self.merge8 = ConvBlock(96, 96)
        self.merge4 = ConvBlock(64, 64)
        self.merge2 = ConvBlock(32, 32)
        self.out = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, 1, 1)
            for inputs, outputs in zip((32, 64, 96), CHANNELS, strict=False)
        )

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at2 = self.down2(photo)
        at4 = self.down4(at2)
        at8 = self.down8(at4)
        at8 = self.merge8(at8 + _twice(self.up8(self.down16(at8))))
        at4 = self.merge4(at4 + _twice(self.up4(at8)))
        at2 = self.merge2(at2 + _twice(self.up2(at4)))
        return self.out[0](at2), self.out[1](at4), self.out[2](at8)


class Join(nn.Module):
    """A convolution to half the size that also hears others: their part is added to its own.

    The same as a convolution of both side by side, but what does not change (the photo's part,
    computed once) costs nothing.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.own = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        return torch.relu(self.own(x) + others)


class Enlarge(nn.Module):
    """Bilinear interpolation to the size of a patch, as two products.

    onnxruntime takes five times as long for its own.
    """

    def __init__(self, patch: Patch, factor: int) -> None:
        super().__init__()
        for name, side in (("rows", patch.height), ("columns", patch.width)):
            line = torch.eye(side // factor)[None]
            ramps = F.interpolate(line, scale_factor=float(factor), mode="linear")[0]
            self.register_buffer(name, ramps.T if name == "rows" else ramps, False)

    def forward(self, x: Tensor) -> Tensor:
        large: Tensor = self.rows @ x @ self.columns
        return large


class PatchNet(nn.Module):
    """What the explicit renderer's patch lacks; runs every frame.

    The frame becomes ``keep * warped + add``: the drawn patch, moved by ``flow``, as far as it is
    kept, and new light and colour. New pixels are made only at lips and eyes, and in a mouth the
    photo's own may come back; elsewhere the photo's are moved and smoothly shaded, so that skin,
    grain and brush strokes stay.

    Inputs:
        picture: (B, 5, H, W) in [0, 1], the drawn patch and two masks.
        shift: (B, 2, H/4, W/4), where the skin lies in the photo, units of 16 patch pixels.
        at2, at4, at8: what :class:`PhotoNet` says.
        interior: (B, N_INTERIOR), what is seen between the lips; of the mouth alone.
        own: (B, 4, H, W) in [0, 1], the photo's own, see :func:`own_mouth`; of the mouth alone.

    Outputs:
        flow: (B, 2, H/2, W/2) patch pixels to the right and down, where to take a pixel from.
        mixed: (B, 4, H, W): keep in 0..1, then add, RGB in units of the range [-1, 1].
    """

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        c1, c2, c3, c4 = CHANNELS
        told = N_INTERIOR + 4 if patch is MOUTH else 0
        self.down2 = Join(5 + told, c1)
        self.down4 = Join(c1, c2)
        self.shift = nn.Conv2d(2, c2, 3, 1, 1)
        self.down8 = Join(c2, c3)
        self.down16 = nn.Sequential(ConvBlock(c3, c4, 2), Residual(c4), Residual(c4))
        self.up8, self.merge8 = nn.Conv2d(c4, c3, 1), ConvBlock(c3, c3)
        self.up4, self.merge4 = nn.Conv2d(c3, c2, 1), ConvBlock(c2, c2)
        self.up2, self.merge2 = nn.Conv2d(c2, c1, 1), ConvBlock(c1, c1)
        self._kind = patch.name
        self.white = 1.0  # value of a full pixel; exported networks take bytes
        # Flow, keep and four pixels of RGB: fifteen, for as much time as two; and how much of the
        # photo's own mouth.
        self.answer = nn.Conv2d(c1, 16 if patch is MOUTH else 15, 3, 1, 1)
        self.shade = nn.Conv2d(c3, 3, 1)
        self.shaded = Enlarge(patch, 8)
        self.doubled = Enlarge(patch, 2)
        _begin_still(self.answer)
        nn.init.zeros_(self.shade.weight)
        nn.init.zeros_(self.shade.bias)
        self.register_buffer("eye", torch.from_numpy(eye_reach())[None, None], False)
        self.register_buffer("window", torch.from_numpy(window(patch))[None, None], False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        flow, keep, add = self.parts(*inputs)
        return flow, torch.cat([keep, add], 1)

    def parts(
        self,
        picture: Tensor,
        shift: Tensor,
        at2: Tensor,
        at4: Tensor,
        at8: Tensor,
        interior: Tensor | None = None,
        own: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Flow, keep and add, each by itself."""
        seen = picture
        fits = None
        if interior is not None and own is not None:  # told where the lips are open
            lips = picture[:, 3:4]
            own, fits = own[:, :3], own[:, 3:] * (lips / self.white)
            apart = (own - picture[:, :3]) * (lips / self.white)
            seen = torch.cat([picture, lips * interior[:, :, None, None], apart, fits], 1)
        x2 = self.down2(seen, at2)
        x4 = self.down4(x2, at4 + self.shift(shift))
        x8 = self.down8(x4, at8)
        y8 = self.merge8(x8 + _twice(self.up8(self.down16(x8))))
        y4 = self.merge4(x4 + _twice(self.up4(y8)))
        y2 = self.merge2(x2 + _twice(self.up2(y4)))
        answer = self.answer(y2)
        flow = torch.tanh(answer[:, :2]) * _FLOW_UNIT * F.avg_pool2d(self.window, 2)
        fresh = self._reach(picture) * self.window
        keep = 1 - _twice(torch.sigmoid(answer[:, 2:3])) * fresh
        shade = self.shaded(torch.tanh(self.shade(y8))) * self.window
        add = 2 * torch.tanh(F.pixel_shuffle(answer[:, 3:15], 2) * 0.5) * fresh
        if own is not None and fits is not None:
            doubt = _twice(answer[:, 15:]) + _FITS * (fits / self.white - 0.5)
            share = torch.sigmoid(doubt) * (picture[:, 3:4] / self.white)
            keep = keep * (1 - share)
            add = add * (1 - share) + share * (2 * own / self.white - 1)
        return flow, keep, add + shade

    def _reach(self, picture: Tensor) -> Tensor:
        """Where new pixels may be made: lips and mouth, lids and eyes; skin keeps the photo's."""
        if self._kind == EYES.name:
            return self.eye
        lips = F.avg_pool2d(picture[:, 4:5] / self.white, 2)
        near = (3 * F.avg_pool2d(lips, 11, 1, 5)).clamp(max=1)
        reach: Tensor = self.doubled(near)
        return reach


def _begin_still(answer: nn.Conv2d) -> None:
    """It starts as the explicit renderer, the four pixels of a block alike (Aitken et al. 2017)."""
    nn.init.normal_(answer.weight, 0, 1e-3)
    nn.init.zeros_(answer.bias)
    with torch.no_grad():
        answer.weight[3:15].copy_(answer.weight[3:15:4].repeat_interleave(4, 0))
        answer.bias[2:3] = -3.0  # all is kept


def own_mouth(photo: Tensor, shift: Tensor, lips: Tensor) -> Tensor:
    """The photo's own mouth (B, 4, H, W) as the mesh moves it: RGB, and how well it fits in 0..1.

    It fits where the photo's lips are open as well, the less the more it would be stretched.

    Args:
        photo: (B, 4, H, W) in [0, 1], the photo's patch and its opening.
        shift: (B, 2, H/4, W/4), see :class:`PatchNet`.
        lips: (B, 1, H, W) in [0, 1], the opening of the frame.
    """
    there = F.interpolate(shift, photo.shape[2:], mode="bilinear") * SHIFT_UNIT
    size = photo[:, 3:4].sum((2, 3), keepdim=True) / lips.sum((2, 3), keepdim=True).clamp(min=1)
    moved = _fetched(photo, there)
    return torch.cat([moved[:, :3], moved[:, 3:] * size.clamp(max=1)], 1)


def compose(drawn: Tensor, flow: Tensor, mixed: Tensor) -> Tensor:
    """The frame: (B, 3, H, W) in [-1, 1], ``keep * warped + add``, not clipped.

    Args:
        drawn: (B, 3, H, W).
        flow, mixed: what :class:`PatchNet` returns.
    """
    flow = F.interpolate(flow, drawn.shape[2:], mode="bilinear")
    return mixed[:, :1] * _fetched(drawn, flow) + mixed[:, 1:]


def _fetched(picture: Tensor, flow: Tensor) -> Tensor:
    """Every pixel of (B, C, H, W) from where the flow (B, 2, H, W), pixels, says."""
    height, width = picture.shape[2:]
    y = torch.arange(height, device=picture.device, dtype=picture.dtype)[:, None]
    x = torch.arange(width, device=picture.device, dtype=picture.dtype)[None]
    # grid_sample counts from -1 to 1 over the outer edges of the first and last pixel.
    place = torch.stack(
        [(2 * (x + flow[:, 0]) + 1) / width - 1, (2 * (y + flow[:, 1]) + 1) / height - 1], -1
    )
    return F.grid_sample(picture, place, "bicubic", "border", align_corners=False)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0)
