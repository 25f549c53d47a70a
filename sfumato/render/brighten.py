"""Light and colour that are known coarsely, added to a picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Box = tuple[int, int, int, int]

_HALF = np.full(4, 128.0)  # of the range: shifted by it, less than nothing fits into bytes as well


def brighten(image: Image, add: Floats, box: Box) -> None:
    """Add to a box of an image (S, S, 4), in place.

    Args:
        add: (N, N, 3) float32, RGB 0..255, negative where it darkens; N pixels span the image.
        box: x0, y0, x1, y1 in pixels of the image.
    """
    side, count = image.shape[0], add.shape[0]
    x0, y0, x1, y1 = box
    red, green, blue = cv2.split(cv2.add(add, _HALF, dtype=cv2.CV_8U))
    shifted = cv2.merge([red, green, blue, np.full_like(red, 128)])
    left, right = _cells(x0, x1, side, count)
    top, low = _cells(y0, y1, side, count)
    zoom = side / count
    shape = (round(zoom * (right - left)), round(zoom * (low - top)))
    large = cv2.resize(shifted[top:low, left:right], shape)
    left, top = round(zoom * left), round(zoom * top)
    part = image[y0:y1, x0:x1]
    cv2.addWeighted(part, 1, large[y0 - top : y1 - top, x0 - left : x1 - left], 1, -128, dst=part)


def _cells(start: int, stop: int, side: int, count: int) -> tuple[int, int]:
    """Which of ``count`` pixels an enlargement needs for pixels start .. stop - 1 of ``side``."""
    zoom, rest = divmod(side, count)
    if rest:
        # A part would not lie on whole pixels.
        return 0, count
    return max(start // zoom - 1, 0), min((stop - 1) // zoom + 2, count)
