"""What the learned decoder looks at: patches around the mouth and the eyes.

Training and use cut their patches here, so that both see the same. A patch stands upright and has
one scale: it hangs on bone (the base of the nose, the corners of an eye) and on the distance of
the outer eye corners in space, so that teeth stay where they are while the lips move over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology
from sfumato.geometry.ramp import smoothstep

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]
Affine = NDArray[np.float64]

EYE_DISTANCE = 165.0  # patch pixels between the outer eye corners; about a canvas pixel each
SHIFT_STEP = 4  # patch pixels per sample of the shift
_NOSE_BASE = 2
_FADE = 12  # patch pixels over which a patch fades into the frame
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


@dataclass(frozen=True)
class Patch:
    """A kind of patch.

    Attributes:
        name: ``mouth`` or ``eyes``.
        width, height: Pixels, multiples of 16.
        matrices: Landmarks (478, 3) of a face -> affine maps (2, 3) from canvas to patch pixels,
            one for every patch of this kind.
    """

    name: str
    width: int
    height: int
    matrices: Callable[[Floats], list[Affine]]


def _mouth(landmarks: Floats) -> list[Affine]:
    return [_hung(landmarks, landmarks[_NOSE_BASE, :2], ((MOUTH.width - 1) / 2, 28.0), False)]


def _eyes(landmarks: Floats) -> list[Affine]:
    at = ((EYES.width - 1) / 2, (EYES.height - 1) / 2)
    return [
        _hung(landmarks, landmarks[list(corners), :2].mean(axis=0), at, mirrored)
        for corners, mirrored in (((33, 133), False), ((263, 362), True))
    ]


MOUTH = Patch("mouth", 176, 144, _mouth)
EYES = Patch("eyes", 112, 80, _eyes)  # the image-right eye is mirrored: both look alike
PATCHES = (MOUTH, EYES)


def _hung(landmarks: Floats, point: Floats, at: tuple[float, float], mirrored: bool) -> Affine:
    """Upright map that takes ``point`` to ``at``."""
    first, last = topology.OUTER_CORNERS
    across = landmarks[last] - landmarks[first]
    zoom = EYE_DISTANCE / max(float(np.linalg.norm(across)), 1.0)
    roll = float(np.arctan2(across[1], across[0]))
    cos, sin = zoom * math.cos(roll), zoom * math.sin(roll)
    x, y = point.tolist()
    side = -1 if mirrored else 1
    return np.array(
        [
            [side * cos, side * sin, at[0] - side * (cos * x + sin * y)],
            [-sin, cos, at[1] + sin * x - cos * y],
        ]
    )


def cut(patch: Patch, image: Image, matrix: Affine) -> Image:
    """Patch (H, W[, C]) of a canvas."""
    size = (patch.width, patch.height)
    # Bilinear interpolation would blur what is learned, and once more what is made of it.
    part = cv2.warpAffine(
        image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(part, np.uint8)


def masks(patch: Patch, landmarks: Floats, matrix: Affine) -> Image:
    """(H, W, 2) uint8; mouth: opening, lips; eyes: opening, iris."""
    return np.dstack(mask_planes(patch, landmarks, matrix))


def mask_planes(patch: Patch, landmarks: Floats, matrix: Affine) -> tuple[Image, Image]:
    """The two of :func:`masks`, each by itself."""

    def filled(ids: tuple[int, ...]) -> Image:
        return _filled(patch, landmarks[list(ids), :2] @ matrix[:, :2].T + matrix[:, 2])

    if patch is MOUTH:
        return filled(topology.INNER_LIPS), filled(topology.OUTER_LIPS)
    right = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0] < 0
    lids, iris = (
        (topology.RIGHT_EYE, topology.RIGHT_IRIS)
        if right
        else (topology.LEFT_EYE, topology.LEFT_IRIS)
    )
    centre, *rim = landmarks[list(iris), :2] @ matrix[:, :2].T + matrix[:, 2]
    radius = float(np.linalg.norm(rim - centre, axis=1).mean())
    return filled(lids), _filled(patch, centre + radius * _CIRCLE)


def shift(
    patch: Patch, field: Floats, matrix: Affine, source: Affine, size: int, density: float = 1.0
) -> NDArray[np.float32]:
    """How far the skin has moved, (H / 4, W / 4, 2) float32, patch pixels.

    Where in the photo's own patch the skin shown here lies, minus here.

    Args:
        field: (S / 2, S / 2, 2) float32, as ``Rendered.field``.
        matrix: the frame's canvas to its patch; ``source``: the photo's own.
        size: side S of the canvas.
        density: how much of the field is a canvas pixel.
    """
    shape = (patch.width // SHIFT_STEP, patch.height // SHIFT_STEP)
    # Both grids hold block centres: pixel p of a grid with step s lies at s p + (s - 1) / 2.
    cells = _centres(SHIFT_STEP)
    to_canvas = _chained(np.asarray(cv2.invertAffineTransform(matrix), np.float64), cells)
    step = size // field.shape[0]
    to_field = to_canvas / step
    to_field[:, 2] -= (step - 1) / (2 * step)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(field, to_field, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    still = cv2.transform(_cells(*shape), _chained(source, to_canvas) - cells)
    return np.asarray(cv2.add(still, cv2.transform(moved, source[:, :2] / density)), np.float32)


def window(patch: Patch) -> NDArray[np.float32]:
    """(H, W) float32: share of the decoder in every pixel of a patch, 0 at the border, 1 inside."""

    def rise(count: int) -> Floats:
        away = np.minimum(np.arange(count), np.arange(count)[::-1]) / _FADE
        return smoothstep(away)

    return np.outer(rise(patch.height), rise(patch.width)).astype(np.float32)


def eye_reach() -> NDArray[np.float32]:
    """(H, W) float32 in 0..1 of an eye's patch: where lids, lashes and the eye itself may be."""
    y, x = np.mgrid[: EYES.height, : EYES.width].astype(np.float32)
    # The corners lie a quarter of the patch from its middle; lids move more above than below.
    dx = (x - (EYES.width - 1) / 2) / 40
    dy = (y - (EYES.height - 1) / 2 + 3) / 26
    away = np.hypot(dx, dy)
    return np.asarray(smoothstep((1.15 - away) / 0.35), np.float32)


def _chained(outer: Affine, inner: Affine) -> Affine:
    """First ``inner``, then ``outer``, both (2, 3)."""
    both = outer[:, :2] @ inner
    both[:, 2] += outer[:, 2]
    return both


@cache
def _centres(step: int) -> Affine:
    """Blocks of ``step`` x ``step`` pixels to the pixels of their centres; not to be changed."""
    return np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2]])


@cache
def _cells(width: int, height: int) -> NDArray[np.float32]:
    """x and y of every pixel, (height, width, 2); not to be changed."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.dstack([x, y]).astype(np.float32)


def _filled(patch: Patch, polygon: Floats) -> Image:
    mask = np.zeros((patch.height, patch.width), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask
