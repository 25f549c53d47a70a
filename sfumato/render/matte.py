"""Person matte at full resolution, and the colours of the person without the background.

A segmentation network gives a coarse matte. Near its edge the local colours of person and
background say how much of each a pixel holds (alpha = projection of the pixel on the line between
the two colours); a guided filter (He, Sun, Tang 2010, "Guided Image Filtering") then aligns the
result with the picture's own edges. Foreground colours follow Forte, "Approximate Fast Foreground
Colour Estimation" (ICIP 2021): two passes of blurred means with a correction of the residual.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_SEGMENT_SIDE = 240


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
    body = _segment(image, coarse, core)
    reach = max(2, round(0.02 * image.shape[0]))
    inside = _shrunk(body > 0.5, reach) | core
    outside = _shrunk(body <= 0.5, reach)
    local = _projected(colour, body, inside, outside)
    local[inside], local[outside] = 1, 0
    smooth = _guided(colour, local, max(2, reach // 2), 1e-4)
    # The filter leaves a faint veil on both sides; cut it off.
    matte: Floats = np.clip((smooth - 0.06) / 0.88, 0, 1)
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
    front = _local_mean(colour, matte, (0.3, 0.04))
    for sigma in (0.04, 0.006):
        front = _local_mean(front, matte, (sigma,), front)
        front = np.clip(front + alpha * (colour - alpha * front - (1 - alpha) * behind), 0, 255)
    return front


def _segment(image: NDArray[np.uint8], coarse: Floats, core: NDArray[np.bool_]) -> Floats:
    """Decide by colour where the coarse matte hesitates (GrabCut, Rother et al. 2004): 0..1."""
    size = (_SEGMENT_SIDE, _SEGMENT_SIDE)
    small, doubt = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (image, coarse))
    labels = np.where(doubt > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    # A network may miss a scarf or a braid altogether: let colour find what hangs near the person.
    near = cv2.dilate((doubt > 0.5).astype(np.uint8), _disc(round(0.08 * _SEGMENT_SIDE))) > 0
    labels[(doubt < 0.01) & ~near] = cv2.GC_BGD
    labels[doubt > 0.85] = cv2.GC_FGD
    labels[cv2.resize(core.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0] = cv2.GC_FGD
    if (labels == cv2.GC_FGD).all() or not (labels % 2 == 0).any():
        return coarse
    cv2.setRNGSeed(0)  # its k-means draws from OpenCV's own generator
    whole = (0, 0, *size)  # not used: the labels say where to begin
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, whole, *models, 3, cv2.GC_INIT_WITH_MASK)
    person = (labels % 2).astype(np.float32)
    grown = cv2.resize(person, coarse.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(grown, (0, 0), 0.7 * image.shape[0] / _SEGMENT_SIDE).astype(np.float32)


def _shrunk(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = cv2.erode(mask.astype(np.uint8), _disc(radius)) > 0
    return result


def _disc(radius: int) -> NDArray[np.uint8]:
    size = (2 * radius + 1, 2 * radius + 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size).astype(np.uint8)


def _projected(
    colour: Floats, body: Floats, inside: NDArray[np.bool_], outside: NDArray[np.bool_]
) -> Floats:
    """Alpha from the local colours of both sides, or the body's own where they are alike."""
    front = _local_mean(colour, inside.astype(np.float32), (0.3, 0.04))
    behind = _local_mean(colour, outside.astype(np.float32), (0.3, 0.04))
    line = front - behind
    contrast = np.square(line).sum(axis=2)
    part = np.clip(((colour - behind) * line).sum(axis=2) / (contrast + 1e-4), 0, 1)
    # A third colour beside the two tells nothing of how they mix.
    aside = np.square(colour - behind - part[..., None] * line).sum(axis=2)
    trust = contrast / (contrast + 0.01 + 10 * aside)
    result: Floats = trust * part + (1 - trust) * body
    return result


def _local_mean(
    values: Floats, weight: Floats, sigmas: tuple[float, ...], prior: Floats | None = None
) -> Floats:
    """Mean of the values around every pixel, counting only where the weight is.

    Args:
        values: (H, W, 3).
        weight: (H, W).
        sigmas: radii of the mean as shares of the height, from wide to narrow; a wide mean stands
            in where a narrower one finds no weight.
        prior: (H, W, 3) what stands in for the widest.
    """
    height, width = weight.shape
    for share in sigmas:
        step = max(1, int(share * height / 2))
        size = (max(2, width // step), max(2, height // step))
        mass = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        total = cv2.resize(values * weight[..., None], size, interpolation=cv2.INTER_AREA)
        if prior is None:
            prior = np.full_like(values, total.sum((0, 1)) / max(float(mass.sum()), 1e-6))
        sigma = share * height / step
        mass = cv2.GaussianBlur(mass, (0, 0), sigma)[..., None]
        total = cv2.GaussianBlur(total, (0, 0), sigma)
        stand_in = cv2.resize(prior, size, interpolation=cv2.INTER_AREA)
        mean = (total + 1e-3 * stand_in) / (mass + 1e-3)
        wide = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
        prior = wide.astype(np.float32, copy=False)
    return np.zeros_like(values) if prior is None else prior


def _guided(guide: Floats, values: Floats, radius: int, epsilon: float) -> Floats:
    """Guided filter with a colour guide (He et al., equations 14 to 16)."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Floats) -> Floats:
        return cv2.boxFilter(x, -1, size).astype(np.float32, copy=False)

    channels = [np.ascontiguousarray(guide[..., i]) for i in range(3)]
    centres, level = [mean(x) for x in channels], mean(values)
    cross = [mean(x * values) - m * level for x, m in zip(channels, centres, strict=True)]

    def spread(i: int, j: int) -> Floats:
        return mean(channels[i] * channels[j]) - centres[i] * centres[j] + epsilon * (i == j)

    rr, gg, bb = spread(0, 0), spread(1, 1), spread(2, 2)
    rg, rb, gb = spread(0, 1), spread(0, 2), spread(1, 2)
    # Inverse of the symmetric 3 x 3 matrix by its cofactors.
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    rows = ((c_rr, c_rg, c_rb), (c_rg, c_gg, c_gb), (c_rb, c_gb, c_bb))
    slopes = [_dot(row, cross) / determinant for row in rows]
    offset = level - _dot(slopes, centres)
    return _dot([mean(a) for a in slopes], channels) + mean(offset)


def _dot(first: Sequence[Floats], second: Sequence[Floats]) -> Floats:
    result: Floats = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    return result
