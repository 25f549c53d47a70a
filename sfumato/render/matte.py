"""Person matte at full resolution, and the colours of the person without the background.

A segmentation network gives a coarse matte. Near its edge the local colours of person and
background say how much of each a pixel holds (alpha = projection of the pixel on the line between
the two colours); a guided filter (He, Sun, Tang 2010, "Guided Image Filtering") then aligns the
result with the picture's own edges. Foreground colours follow Forte, "Approximate Fast Foreground
Colour Estimation" (ICIP 2021): two passes of blurred means with a correction of the residual.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_EPSILON = 1e-4


def refine(image: NDArray[np.uint8], coarse: Floats, core: NDArray[np.bool_]) -> Floats:
    """Matte with hair from a coarse one.

    Args:
        image: (H, W, 3) RGB.
        coarse: (H, W) in 0..1, smooth over a few pixels or more.
        core: (H, W) pixels that surely belong to the person (the face).

    Returns:
        (H, W) float32 in 0..1.
    """
    colour = image.astype(np.float32) / 255
    reach = max(2, round(0.016 * image.shape[0]))
    inside = _shrunk(coarse > 0.9, reach) | core
    outside = _shrunk(coarse < 0.1, reach)
    local = _projected(colour, coarse, inside, outside, 3 * reach)
    local[inside], local[outside] = 1, 0
    smooth = _guided(colour, local, max(2, reach // 3), 1e-4)
    # The filter leaves a faint veil on both sides; cut it off.
    matte = np.clip((smooth - 0.06) / 0.88, 0, 1)
    matte[core] = 1
    return matte


def foreground(image: NDArray[np.uint8], matte: Floats, background: NDArray[np.uint8]) -> Floats:
    """Colours of the person alone, also where the matte is thin.

    Composed over ``background`` with the same matte they give the image back as far as colours
    between 0 and 255 can.

    Args:
        image: (H, W, 3) RGB.
        matte: (H, W) in 0..1.
        background: (H, W, 3) RGB, what will lie behind.

    Returns:
        (H, W, 3) float32 in 0..255.
    """
    colour, behind = image.astype(np.float32), background.astype(np.float32)
    alpha = matte[..., None]
    front = colour
    for sigma in (0.04 * image.shape[0], 0.006 * image.shape[0]):
        front = _weighted_blur(front, matte, sigma)
        front = front + alpha * (colour - alpha * front - (1 - alpha) * behind)
        front = np.clip(front, 0, 255)
    result: Floats = front
    return result


def _shrunk(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.erode(mask.astype(np.uint8), kernel) > 0


def _projected(
    colour: Floats,
    coarse: Floats,
    inside: NDArray[np.bool_],
    outside: NDArray[np.bool_],
    radius: int,
) -> Floats:
    """Alpha from local colours of both sides, leaning on the coarse matte where they are alike."""
    front = _weighted_blur(colour, inside.astype(np.float32), radius)
    behind = _weighted_blur(colour, outside.astype(np.float32), radius)
    line = front - behind
    contrast = np.square(line).sum(axis=2)
    part = np.clip(((colour - behind) * line).sum(axis=2) / (contrast + _EPSILON), 0, 1)
    trust = contrast / (contrast + 0.02)
    result: Floats = trust * part + (1 - trust) * coarse
    return result


def _weighted_blur(values: Floats, weight: Floats, sigma: float) -> Floats:
    """Mean of the values around every pixel, counting only where the weight is."""
    step = max(1, int(sigma / 2))
    size = (max(1, weight.shape[1] // step), max(1, weight.shape[0] // step))
    small = cv2.resize(values * weight[..., None], size, interpolation=cv2.INTER_AREA)
    mass = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    total, share = np.zeros_like(small), np.zeros_like(mass)
    # Wider and wider, so that a far pixel still gets the nearest colours there are.
    for widen, part in ((1, 1.0), (4, 1e-3), (16, 1e-6)):
        total += part * cv2.GaussianBlur(small, (0, 0), widen * sigma / step)
        share += part * cv2.GaussianBlur(mass, (0, 0), widen * sigma / step)
    mean = total / (share + 1e-12)[..., None]
    return cv2.resize(mean, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _guided(guide: Floats, values: Floats, radius: int, epsilon: float) -> Floats:
    """Guided filter with a colour guide (He et al., equations 14 to 16)."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Floats) -> Floats:
        return cv2.boxFilter(x, -1, size)

    centre, level = mean(guide), mean(values)
    cross = mean(guide * values[..., None]) - centre * level[..., None]
    covariance = np.empty((*values.shape, 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            entry = mean(guide[..., i] * guide[..., j]) - centre[..., i] * centre[..., j]
            covariance[..., i, j] = covariance[..., j, i] = entry + (epsilon if i == j else 0)
    slope = _solve(covariance, cross)
    offset = level - (slope * centre).sum(axis=2)
    result: Floats = (mean(slope) * guide).sum(axis=2) + mean(offset)
    return result


def _solve(matrix: Floats, vector: Floats) -> Floats:
    """Solve many symmetric 3 x 3 systems by Cramer's rule: (..., 3, 3), (..., 3) -> (..., 3)."""
    a, b, c = matrix[..., 0, :], matrix[..., 1, :], matrix[..., 2, :]
    bc, ca, ab = np.cross(b, c), np.cross(c, a), np.cross(a, b)
    determinant = (a * bc).sum(axis=-1)
    adjugate = np.stack([bc, ca, ab], axis=-1)
    result: Floats = (adjugate @ vector[..., None])[..., 0] / determinant[..., None]
    return result
