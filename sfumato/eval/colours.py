"""Colours of faces in CIELAB: how light skin is."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry.distances import eye_distance

Floats = NDArray[np.floating]

SKIN_TONES = ("light", "intermediate", "dark")
CHEEKS = (50, 280, 205, 425)
_RADIUS = 0.06  # of the outer-eye distance, around each point of a cheek


def cheeks(picture: Floats, landmarks: Floats) -> Floats:
    """Median colour (3,) of both cheeks of a CIELAB picture (H, W, 3)."""
    radius = _RADIUS * float(eye_distance(landmarks[:, :2]))
    mask = np.zeros(picture.shape[:2], np.uint8)
    for point in landmarks[list(CHEEKS), :2]:
        centre = (round(float(point[0])), round(float(point[1])))
        cv2.circle(mask, centre, max(1, round(radius)), 1, -1)
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
