"""Pictures in one tint: a grey or sepia print must stay one, whatever is added to it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

GREY = 3.5  # CIELAB: below this a face has one tint; few prints exceed 3, no photo falls below 3.8
_STEP = 5.0  # of lightness, 0..100
_FEW = 12  # pixels; fewer say nothing of a lightness


def tint_of(image: Image, landmarks: Floats) -> NDArray[np.float32] | None:
    """Colour (256, 3) of every luma 0..255 in a picture of one tint; None where there are more.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (478, 3) pixels; only the face counts.
    """
    face = lab(image)[inside(image.shape, landmarks, topology.FACE_OVAL)]
    if len(face) == 0 or colourfulness(face) >= GREY:
        return None
    tints = Tints.of(face)
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    row = lab(grey)
    for channel in (0, 1):
        row[:, 0, 1 + channel] = np.interp(row[:, 0, 0], tints.light, tints.hue[:, channel])
    colours = cv2.cvtColor(row.astype(np.float32), cv2.COLOR_LAB2RGB)[:, 0]
    return np.asarray(np.clip(colours * 255, 0, 255), np.float32)


def in_one_tint(colours: Floats, tint: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours (..., 3) in 0..255 as a print with this tint shows them."""
    luma = colours @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(tint[np.clip(luma + np.float32(0.5), 0, 255).astype(np.uint8)], np.float32)


def lab(image: Image) -> Floats:
    """CIELAB (H, W, 3) float32 of sRGB under D65: L 0..100, a and b about -100..100.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    found = cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    return np.asarray(found, np.float32)


def inside(shape: tuple[int, ...], landmarks: Floats, ring: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) bool, the pixels within a closed ring of landmarks (478, 3)."""
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(landmarks[list(ring), :2]).astype(np.int32)], 1)
    return mask > 0


@dataclass(frozen=True)
class Tints:
    """The usual hue of a picture for every lightness; of a print in one tint it is the only one.

    Attributes:
        light: (N,) lightness, rising.
        hue: (N, 2) median a and b there.
    """

    light: Floats
    hue: Floats

    @staticmethod
    def of(pixels: Floats) -> Tints:
        """From CIELAB pixels (M, 3), at least one."""
        steps = np.floor(pixels[:, 0] / _STEP).astype(int)
        kinds, count = np.unique(steps, return_counts=True)
        kept = kinds[count >= min(_FEW, count.max())]
        rows = [np.median(pixels[steps == kind, 1:], axis=0) for kind in kept]
        return Tints((kept + 0.5) * _STEP, np.array(rows))

    def apart(self, pixels: Floats) -> Floats:
        """How far CIELAB pixels (M, 3) lie from the usual hue at their lightness: (M,)."""
        usual = [np.interp(pixels[:, 0], self.light, column) for column in self.hue.T]
        return np.asarray(np.hypot(pixels[:, 1] - usual[0], pixels[:, 2] - usual[1]))


def colourfulness(pixels: Floats) -> float:
    """What nine in ten CIELAB pixels (M, 3) of a face keep to: distance from its :class:`Tints`.

    Below :data:`GREY` the face is printed in one tint, be it grey or sepia.
    """
    return float(np.percentile(Tints.of(pixels).apart(pixels), 90))
