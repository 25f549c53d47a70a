"""Upright squares around faces: the crops that the networks see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

# Outer corners of the eyes in MediaPipe's numbering: image left, image right.
EYE_CORNERS = (33, 263)
N_FACE = 468


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
    across = points[EYE_CORNERS[1]] - points[EYE_CORNERS[0]]
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
        times = int(shrink)
        height, width = image.shape[:2]
        size = max(1, width // times), max(1, height // times)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        sx, sy = width / small.shape[1], height / small.shape[0]
        to_full = np.array([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]])
        matrix, image = matrix @ to_full, small
    out = cv2.warpAffine(image, matrix, (pixels, pixels), flags=cv2.INTER_LINEAR, borderMode=border)
    return out.astype(np.uint8, copy=False)
