"""Small tools of the painter: noise, tone ramps, soft masks, strokes."""

from __future__ import annotations

import cv2
import numpy as np


def noise(
    rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 4
) -> np.ndarray:
    """Smooth fractal noise, (H, W) float32 about 0 with unit variance; ``cell`` in pixels."""
    out = np.zeros(shape, np.float32)
    gain = 1.0
    for _ in range(octaves):
        small = (max(int(shape[0] / cell), 1) + 3, max(int(shape[1] / cell), 1) + 3)
        field = rng.standard_normal(small).astype(np.float32)
        out += gain * cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC)
        cell, gain = max(cell / 2, 1.0), gain / 2
    return (out - out.mean()) / out.std()


def ramp(value: np.ndarray, stops: list[tuple[float, tuple[int, int, int]]]) -> np.ndarray:
    """Tone to colour, (..., 3) float32 0..255, through the painter's mixed ``stops``."""
    at = [s[0] for s in stops]
    channels = [np.interp(value, at, [s[1][k] for s in stops]) for k in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(plane, (0, 0), max(sigma, 0.01))


def blur_within(plane: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur that takes no paint from outside of ``mask`` (H, W) 0..1."""
    weight = mask if plane.ndim == 2 else mask[..., None]
    below = blur(mask, sigma) + 1e-4
    return blur(plane * weight, sigma) / (below if plane.ndim == 2 else below[..., None])


def smooth(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, soft between (either order)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def lay(picture: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Glaze ``colour`` over ``picture`` in place."""
    picture += (colour - picture) * alpha[..., None]
