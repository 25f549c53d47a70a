"""The visible mark on live pictures, which carry no signed manifest: "AI-generated" in a corner."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

TEXT = "AI-generated"
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEIGHT = 0.026  # of capital letters, share of the picture's side
_MARGIN = 0.02  # from the picture's edge
_SHADE = 0.45  # how dark the ground under the letters is


def marked(image: Image) -> Image:
    """A copy of (H, W, 3) uint8 RGB with the mark in its lower left corner."""
    share, add = _mark(image.shape[0], image.shape[1])
    height, width = share.shape[:2]
    low = image.shape[0] - round(_MARGIN * image.shape[0])
    left = round(_MARGIN * image.shape[1])
    out = image.copy()
    part = out[low - height : low, left : left + width]
    part[:] = part * share + add
    return out


@lru_cache(maxsize=8)
def _mark(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What to multiply the corner with, and what to add, (h, w, 1) each."""
    letter = _HEIGHT * min(height, width)
    scale = cv2.getFontScaleFromHeight(_FONT, max(round(letter), 5))
    weight = max(1, round(letter / 9))
    (wide, tall), below = cv2.getTextSize(TEXT, _FONT, scale, weight)
    pad = round(0.7 * letter)
    text = np.zeros((tall + below + 2 * pad, wide + 2 * pad), np.uint8)
    cv2.putText(text, TEXT, (pad, pad + tall), _FONT, scale, 255, weight, cv2.LINE_AA)
    ink = np.asarray(text[..., None], np.float32) / np.float32(255)
    return np.float32(1 - _SHADE) * (1 - ink), np.float32(245) * ink
