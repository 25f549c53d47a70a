"""What is seen between open lips, beyond what their shape tells: teeth together, apart, a tongue.

Landmarks say how far and how wide a mouth is open, not what it shows. That is three numbers here,
principal components of the light between the lips of people who talk, once opening and width have
explained what they can: 0 is what a mouth of this shape usually shows. Sound tells much of them (a
hiss closes the teeth, an open vowel darkens the mouth), and the mouth's network obeys them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato import weights
from sfumato.errors import InputError
from sfumato.facefit import blur_in_time
from sfumato.geometry import topology as topo
from sfumato.geometry.distances import eye_distance, lip_opening, lip_width
from sfumato.geometry.ramp import step
from sfumato.motionfile import N_INTERIOR

Array = NDArray[np.float32]
Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

LEAST, SURE = 0.02, 0.06  # opening in eye distances: from where, and from where on fully, it counts
MOST = 3.0  # standard deviations
_ACROSS = np.linspace(0.12, 0.88, 9)  # share of the way from corner to corner
_DOWN = np.linspace(0.08, 0.92, 6)  # from the upper to the lower lip
N_CELLS = len(_DOWN) * (len(_ACROSS) // 2 + 1)  # left and right are taken together
_BLUR = 0.01  # eye distances: as much detail of large as of small pictures
_GLARE = 12.0  # levels, so that the dark does not decide
_SKIN = (50, 280, 205, 425, 199, 175)  # cheeks and chin tell the light
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Look:
    """A mouth in one picture.

    Attributes:
        light: (N_CELLS,) logarithm of the light between the lips over that of the skin.
        shape: (5,) functions of opening and width, see :func:`look`.
        share: 0 where the mouth is closed or unseen, 1 where it is surely open.
    """

    light: Array
    shape: Array
    share: float


UNSEEN = Look(np.zeros(N_CELLS, np.float32), np.zeros(5, np.float32), 0.0)


def look(image: Image, landmarks: Floats) -> Look:
    """Looks between the lips.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (478, 3) pixels of it; not finite where no face was seen.
    """
    if not np.isfinite(landmarks).all():
        return UNSEEN
    points = np.asarray(landmarks[:, :2], np.float64)
    eyes = max(float(eye_distance(points)), 1.0)
    opening, width = float(lip_opening(points)) / eyes, float(lip_width(points)) / eyes
    share = step((opening - LEAST) / (SURE - LEAST))
    if share == 0.0:
        return UNSEEN
    upper, lower = (
        _along(points[list(rim)]) for rim in (topo.INNER_LIPS_UPPER, topo.INNER_LIPS_LOWER)
    )
    places = upper[None] + (lower - upper)[None] * _DOWN[:, None, None]
    skin = np.median(_colours(image, points[None, list(_SKIN)], 0.0)[0] @ _LUMA)
    light = np.log((_colours(image, places, _BLUR * eyes) @ _LUMA + _GLARE) / (skin + _GLARE))
    light = 0.5 * (light + light[:, ::-1])[:, : len(_ACROSS) // 2 + 1]
    shape = [opening, opening**2, opening**0.5, width, width * opening]
    return Look(light.reshape(-1).astype(np.float32), np.asarray(shape, np.float32), share)


def _along(rim: Floats) -> Floats:
    """Points (9, 2) at ``_ACROSS`` of the way along a rim (n, 2)."""
    steps = np.linalg.norm(np.diff(rim, axis=0), axis=1)
    way = np.concatenate([[0.0], np.cumsum(steps)]) / max(float(steps.sum()), 1e-6)
    return np.stack([np.interp(_ACROSS, way, column) for column in rim.T], axis=1)


def _colours(image: Image, places: Floats, blur: float) -> Array:
    """Colours (h, w, 3) at places (h, w, 2); only what lies around them is blurred."""
    margin = int(3 * blur) + 2
    height, width = image.shape[:2]
    low = np.clip(
        np.floor(places.min(axis=(0, 1))).astype(int) - margin, 0, (width - 1, height - 1)
    )
    high = np.clip(
        np.ceil(places.max(axis=(0, 1))).astype(int) + margin + 1, low + 1, (width, height)
    )
    part = image[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    if blur > 0.3:
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), blur), np.float32)
    place = (places - low).astype(np.float32)
    mode = cv2.BORDER_REPLICATE
    return np.asarray(
        cv2.remap(part, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=mode), np.float32
    )


@dataclass(frozen=True)
class InteriorAxes:
    """What is usual, and how mouths differ from it.

    Attributes:
        usual: (5, N_CELLS) light by the shape of the opening.
        axes: (N_CELLS, N_INTERIOR), the result in standard deviations of open mouths.
    """

    usual: Array
    axes: Array

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> InteriorAxes:
        """The shipped ones.

        Raises:
            InputError: Not such a table.
        """
        try:
            stored = weights.table("interior.npz")
            return InteriorAxes(stored["usual"], stored["axes"])
        except (ValueError, KeyError) as error:
            raise InputError(f"interior.npz says nothing of open mouths: {error}") from error

    def codes(self, looks: Sequence[Look]) -> Array:
        """(T, N_INTERIOR) for the frames of one clip, around what this person's mouth shows.

        Smoothed in time as landmarks are; 0 while the mouth is closed.
        """
        light, shape, share = (
            np.array([getattr(one, name) for one in looks], np.float32)
            for name in ("light", "shape", "share")
        )
        if share.sum() < 1.0:
            return np.zeros((len(looks), N_INTERIOR), np.float32)
        rest = freed(light, share) - freed(shape, share) @ self.usual
        codes = np.clip(rest @ self.axes, -MOST, MOST) * share[:, None]
        return np.asarray(blur_in_time(codes), np.float32)


def freed(values: Array, share: Array) -> Array:
    """Values (T, n) without their mean over open mouths."""
    return np.asarray(values - (share @ values) / share.sum(), np.float32)
