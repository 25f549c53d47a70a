"""Photometric augmentation that turns photos towards paintings, prints, sketches and bad video."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def _sketch(image: Picture, sigma: float) -> Picture:
    """Pencil look: the picture divided by its own blur leaves lines on paper."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    blur = cv2.GaussianBlur(grey, (0, 0), sigma)
    lines = cv2.divide(grey, np.maximum(blur, 1), scale=245)
    return cv2.cvtColor(lines, cv2.COLOR_GRAY2RGB)


def _posterise(image: Picture, levels: int) -> Picture:
    step = 256 // levels
    smooth = cv2.medianBlur(image, 5)
    return ((smooth // step) * step + step // 2).astype(np.uint8)


def _light(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A soft shadow or light from a random side."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    ramp = np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.5, 0.5)
    gain = np.exp(rng.normal(0, 0.6) / (1 + np.exp(-4 * ramp)))
    return image * gain[..., None].astype(np.float32)


def _occlude(image: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Cover a part with a flat ellipse (hair, hand, microphone)."""
    side = image.shape[0]
    centre = tuple(int(v) for v in rng.integers(0, side, 2))
    axes = tuple(int(v) for v in rng.integers(side // 16, side // 4, 2))
    colour = tuple(float(v) for v in rng.uniform(0, 255, 3))
    cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)


def style(image: Picture, rng: np.random.Generator) -> Picture:
    """A random look for ``image`` (H, W, 3) uint8; geometry is untouched."""
    pick = rng.random()
    if pick < 0.06:
        image = _sketch(image, float(rng.uniform(2, 6)))
    elif pick < 0.14:
        image = _posterise(image, int(rng.integers(4, 12)))
    elif pick < 0.24:
        image = cv2.medianBlur(image, int(rng.choice([3, 5, 7])))
    elif pick < 0.30:
        image = cv2.bilateralFilter(image, 7, 60, 5)
    out = image.astype(np.float32)
    if rng.random() < 0.2:
        out[:] = out @ np.array([0.3, 0.59, 0.11], np.float32)[:, None]
    if rng.random() < 0.3:
        out = _light(out, rng)
    out = (np.clip(out, 0, 255) / 255) ** np.float32(np.exp(rng.normal(0, 0.25)))
    out = (out - 0.5) * np.float32(np.exp(rng.normal(0, 0.2))) + np.float32(
        0.5 + rng.normal(0, 0.06)
    )
    out = out * (255 * np.exp(rng.normal(0, 0.1, 3))).astype(np.float32)
    if rng.random() < 0.15:
        _occlude(out, rng)
    if rng.random() < 0.3:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 1.8)))
    if rng.random() < 0.4:
        grain = rng.standard_normal((*out.shape[:2], 1), dtype=np.float32)
        out = out + grain * np.float32(rng.uniform(1, 16))
    return np.clip(out, 0, 255).astype(np.uint8)


def painted(image: Picture, rng: np.random.Generator) -> Picture:
    """``image`` (H, W, 3) uint8 as a drawing, print or painting; geometry is untouched.

    The same state of ``rng`` gives pictures of one size the same look.
    """
    pick = rng.random()
    if pick < 0.15:
        return _sketch(image, float(rng.uniform(2, 6)))
    if pick < 0.35:
        return _posterise(image, int(rng.integers(5, 12)))
    if pick < 0.7:
        return cv2.medianBlur(image, int(rng.choice([3, 5, 7]))).astype(np.uint8)
    smooth = cv2.bilateralFilter(image, 7, 60, 5)
    canvas = rng.normal(0, rng.uniform(2, 7), image.shape[:2])
    weave = cv2.GaussianBlur(canvas, (0, 0), 0.7)[..., None]
    return np.clip(smooth + weave, 0, 255).astype(np.uint8)
