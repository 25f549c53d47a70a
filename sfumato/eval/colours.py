"""Colours of faces in CIELAB: how light skin is, whether a picture is a print in one tint."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

SKIN_TONES = ("light", "intermediate", "dark")
CHEEKS = (50, 280, 205, 425)
GREY = 3.5  # CIELAB: below this a face has one tint; few prints exceed 3, no photo falls below 3.8
_RADIUS = 0.06  # of the outer-eye distance, around each point of a cheek
_STEP = 5.0  # of lightness, 0..100
_FEW = 12  # pixels; fewer say nothing of a lightness


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


def cheeks(picture: Floats, landmarks: Floats) -> Floats:
    """Median colour (3,) of both cheeks of a CIELAB picture (H, W, 3)."""
    left, right = topology.OUTER_CORNERS
    radius = _RADIUS * np.linalg.norm(landmarks[left, :2] - landmarks[right, :2])
    mask = np.zeros(picture.shape[:2], np.uint8)
    for point in landmarks[list(CHEEKS), :2]:
        centre = (round(float(point[0])), round(float(point[1])))
        cv2.circle(mask, centre, max(1, round(float(radius))), 1, -1)
    return np.asarray(np.median(picture[mask > 0], axis=0))


def typology_angle(skin: Floats) -> float:
    """Individual typology angle of a skin colour (L, a, b): atan((L - 50) / b) in degrees.

    Chardin, Hourseau and Merle, "Skin colour typology and suntanning pathways", International
    Journal of Cosmetic Science 13 (1991). Meant for a colorimeter on the skin: of a photo it tells
    exposure and white balance as well.
    """
    return float(np.degrees(np.arctan2(skin[0] - 50, max(float(skin[2]), 1e-3))))


def skin_tone(angle: float) -> str:
    """One of :data:`SKIN_TONES` by angle: light above 41, intermediate from 10 to 41, else dark.

    Chardin's boundaries, in pairs: 41 parts light from intermediate, 10 tanned from brown.
    """
    return "light" if angle > 41 else "intermediate" if angle >= 10 else "dark"


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
