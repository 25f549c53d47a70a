"""One drawn frame and what it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Drawn:
    """A frame on its way to be :class:`Rendered`.

    Attributes:
        picture: (S, S, 4) uint8, RGB and a channel without a meaning; changed in place.
        alpha, landmarks, field: as there.
        interior: (N_INTERIOR,) what was asked for between the lips, see :mod:`sfumato.interior`.
    """

    picture: Image
    alpha: Image
    landmarks: Floats
    field: Floats
    interior: Floats

    def rendered(self) -> Rendered:
        """As it is now."""
        image = np.asarray(cv2.cvtColor(self.picture, cv2.COLOR_RGBA2RGB), np.uint8)
        return Rendered(image, self.landmarks, self.field, self.alpha)


@dataclass(frozen=True)
class Rendered:
    """One frame and what it was made from.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        landmarks: (478, 3) float32, where the face is, canvas pixels.
        field: (S / 2, S / 2, 2) float32, texture pixel minus resting texture pixel for every
            second canvas pixel: where each pixel came from.
        alpha: (S, S) uint8, the person's matte in this frame.
    """

    image: Image
    landmarks: Floats
    field: Floats
    alpha: Image

    def mouth_box(self) -> tuple[int, int, int, int]:
        """Box x0, y0, x1, y1 around the lips with half their width to spare on every side."""
        return _box(self.landmarks[list(topology.OUTER_LIPS), :2])

    def eye_boxes(self) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
        """Boxes around the image-left and the image-right eye."""
        return (
            _box(self.landmarks[list(topology.LEFT_EYE), :2]),
            _box(self.landmarks[list(topology.RIGHT_EYE), :2]),
        )


def _box(points: Floats) -> tuple[int, int, int, int]:
    low, high = points.min(axis=0), points.max(axis=0)
    spare = 0.5 * (high[0] - low[0])
    x0, y0 = np.floor(low - spare).astype(int)
    x1, y1 = np.ceil(high + spare).astype(int)
    return int(x0), int(y0), int(x1), int(y1)
