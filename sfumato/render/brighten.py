"""Light and colour that are known coarsely, added to a picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

_HALF = np.full(4, 128.0)  # of the range: shifted by it, less than nothing fits into bytes as well


def brighten(image: Image, add: Floats) -> None:
    """Add to an image (S, S, 4), in place.

    Args:
        add: (N, N, 4) float32, RGB 0..255, negative where it darkens; N pixels span the image.
    """
    large = cv2.resize(cv2.add(add, _HALF, dtype=cv2.CV_8U), image.shape[:2])
    cv2.addWeighted(image, 1, large, 1, -128, dst=image)
