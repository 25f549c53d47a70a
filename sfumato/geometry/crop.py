"""Upright squares around faces: the crops that the networks see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry.topology import N_FACE, OUTER_CORNERS

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Square:
    """A square in a picture: centre and side in pixels, clockwise roll in radians."""

    x: float
    y: float
    side: float
    roll: float = 0.0

    def matrix(self, pixels: int) -> FloatArray:
        """Affine map (2, 3) from picture pixels to a crop of ``pixels`` x ``pixels``."""
        zoom = pixels / self.side
        cos, sin = np.cos(self.roll) * zoom, np.sin(self.roll) * zoom
        middle = (pixels - 1) / 2
        return np.array(
            [
                [cos, sin, middle - cos * self.x - sin * self.y],
                [-sin, cos, middle + sin * self.x - cos * self.y],
            ]
        )

    def scaled(self, factor: float) -> Square:
        """The same centre with another side."""
        return replace(self, side=self.side * factor)


def face_square(landmarks: FloatArray, margin: float = 1.5) -> Square:
    """Upright square of ``margin`` face sizes around landmarks (N >= 468, 2 or 3) in pixels.

    Upright means that the outer eye corners are level; the centre is that of the bounding box.
    """
    points = np.asarray(landmarks, np.float64)[:N_FACE, :2]
    left, right = OUTER_CORNERS
    across = points[right] - points[left]
    roll = float(np.arctan2(across[1], across[0]))
    cos, sin = np.cos(roll), np.sin(roll)
    upright = points @ np.array([[cos, -sin], [sin, cos]])
    low, high = upright.min(0), upright.max(0)
    middle = (low + high) / 2
    x, y = middle @ np.array([[cos, sin], [-sin, cos]])
    return Square(float(x), float(y), float((high - low).max()) * margin, roll)


def invert(matrix: FloatArray) -> FloatArray:
    """Inverse of an affine map (2, 3)."""
    return np.asarray(cv2.invertAffineTransform(np.asarray(matrix, np.float64)))


def transform(matrix: FloatArray, landmarks: FloatArray) -> FloatArray:
    """Apply an affine map (2, 3) to points (..., N, 2 or 3); z is scaled like x."""
    points = np.asarray(landmarks)
    out = np.empty_like(points)
    out[..., :2] = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    if points.shape[-1] == 3:
        out[..., 2] = points[..., 2] * np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return out


def cut(
    image: NDArray[np.uint8], square: Square, pixels: int, border: int = cv2.BORDER_REPLICATE
) -> NDArray[np.uint8]:
    """The square of ``image`` (H, W[, C]) as (pixels, pixels[, C]); shrinks without moire."""
    shrink = square.side / pixels
    matrix = square.matrix(pixels)
    if shrink > 2.0:
        # Averaging first: bilinear sampling alone would alias when a large photo shrinks.
        image, to_image = _shrunk(image, square, int(shrink))
        matrix = matrix @ to_image
    size = (pixels, pixels)
    crop = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(crop, np.uint8)


def _shrunk(
    image: NDArray[np.uint8], square: Square, times: int
) -> tuple[NDArray[np.uint8], FloatArray]:
    """The part of ``image`` around ``square``, smaller, and the (3, 3) map back to ``image``."""
    height, width = image.shape[:2]
    reach = 0.75 * square.side + 2 * times  # half of the diagonal, and some
    x0, x1 = (int(np.clip(square.x + d, 0, width)) for d in (-reach, reach))
    y0, y1 = (int(np.clip(square.y + d, 0, height)) for d in (-reach, reach))
    if x1 - x0 < times or y1 - y0 < times:
        # The square lies beside the picture.
        x0, y0, x1, y1, times = 0, 0, width, height, 1
    # A whole number of pixels in each: OpenCV averages those several times faster.
    columns, rows = max(1, (x1 - x0) // times), max(1, (y1 - y0) // times)
    part = image[y0 : y0 + rows * times, x0 : x0 + columns * times]
    small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    middle = (times - 1) / 2
    to_image = np.array([[times, 0, x0 + middle], [0, times, y0 + middle], [0, 0, 1]], np.float64)
    return np.asarray(small, np.uint8), to_image
