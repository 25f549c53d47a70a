"""Perceptual distance by the features of the project's own face encoder.

As LPIPS (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric") without learned weights, so figures compare with each other only, not with LPIPS. On real
clips another person's mouth is about 3 away, one moved by 6 pixels 1.1, one blurred by a Gaussian
of 2 pixels only 0.14: features of a landmark network look past softness. Read it beside sharpness.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.engine import Network
from sfumato.eval.reenact import Box

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

# Width and height at which each part is looked at: on the canvas mouths and eyes are about that
# large; the face comes at about twice the size at which the encoder sees it.
SIDES = {"mouth": (128, 128), "eye": (192, 96), "face": (192, 192)}


class Perceptual:
    """Compares parts of pictures. Holds no state.

    Args:
        network: pictures (B, 3, H, W) float32 in [-1, 1] -> feature maps (B, C, h, w), any number
            of them; the shipped ``face_features`` unless one is given.
    """

    def __init__(self, network: Network | None = None) -> None:
        self._network = network or Network("face_features")

    def distances(self, part: str, box: Box, made: Sequence[Image], real: Image) -> list[float]:
        """How far each of the pictures ``made`` is from ``real`` inside ``box``; 0 is the same.

        Args:
            part: name in :data:`SIDES`.
            made, real: (S, S, 3) uint8 RGB.
        """
        patches = np.stack([patch(i, box, SIDES[part]) for i in (*made, real)])
        maps = self._network(patches.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0)
        total = np.zeros(len(made))
        for rows in maps:
            unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)
            total += ((unit[:-1] - unit[-1:]) ** 2).sum(axis=1).mean(axis=(1, 2))
        return [float(value) for value in total]


def patch(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """What lies around ``box`` of ``image`` (S, S, 3) as (height, width, 3), undistorted.

    The box grows to the shape of ``size`` (width, height) and moves to stay inside the image.
    """
    (x0, y0, x1, y1), (width, height) = box, size
    zoom = max((x1 - x0) / width, (y1 - y0) / height)
    spans = []
    for low, high, count, room in (
        (x0, x1, width, image.shape[1]),
        (y0, y1, height, image.shape[0]),
    ):
        span = min(max(1, round(zoom * count)), room)
        start = int(np.clip((low + high - span) // 2, 0, room - span))
        spans.append(slice(start, start + span))
    method = cv2.INTER_AREA if zoom > 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image[spans[1], spans[0]], size, interpolation=method)
    return np.asarray(resized, np.uint8)
