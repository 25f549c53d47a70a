"""Light on the sitter: shadows and occlusion marched through the depth of the picture."""

from __future__ import annotations

import cv2
import numpy as np
from portrait.figure import UNIT, Buffers

KEY = np.array([-0.44, 0.52, 0.74])
KEY = KEY / np.linalg.norm(KEY)
FAR = -5.0


def shifted(plane: np.ndarray, x: float, y: float) -> np.ndarray:
    """``plane`` sampled at (+x, +y) pixels."""
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(
        plane, matrix, plane.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def half(buffers: Buffers) -> tuple[np.ndarray, float]:
    """Height towards the viewer in pixels of a 512-wide picture, and pixels per decimetre."""
    z = np.where(buffers.part < 0, FAR, buffers.position[..., 2]).astype(np.float32)
    size = (512, 640)
    unit = UNIT * 0.5
    return cv2.resize(z, size, interpolation=cv2.INTER_NEAREST) * unit, unit


def shadow(buffers: Buffers, rng: np.random.Generator) -> np.ndarray:
    """Share of a broad key light that reaches each pixel, (H, W) 0..1."""
    z, unit = half(buffers)
    total = np.zeros_like(z)
    rays = 10
    for _ in range(rays):
        ray = KEY + rng.normal(0, 0.10, 3)
        ray /= np.linalg.norm(ray)
        free = np.ones_like(z)
        for step in np.geomspace(2.5, 1.6 * unit, 26):
            over = shifted(z, ray[0] * step, -ray[1] * step) - (z + ray[2] * step)
            blocked = np.clip(over / 2.0, 0, 1) * (over < 0.6 * unit)
            free = np.minimum(free, 1 - blocked)
        total += free
    out = cv2.GaussianBlur(total / rays, (0, 0), 1.2)
    return cv2.resize(out, buffers.part.shape[::-1], interpolation=cv2.INTER_CUBIC)


def openness(buffers: Buffers) -> np.ndarray:
    """Ambient openness (1 = open sky) by horizons in twelve directions, (H, W)."""
    z, unit = half(buffers)
    total = np.zeros_like(z)
    ways = 12
    for way in range(ways):
        angle = 2 * np.pi * way / ways
        x, y = np.cos(angle), np.sin(angle)
        horizon = np.zeros_like(z)
        for step in np.geomspace(1.5, 0.45 * unit, 9):
            rise = shifted(z, x * step, y * step) - z
            rise = np.where(rise > 0.5 * unit, 0, rise)
            horizon = np.maximum(horizon, rise / step)
        total += 1 - horizon / np.sqrt(1 + horizon**2)
    out = cv2.GaussianBlur(total / ways, (0, 0), 1.0)
    return cv2.resize(out, buffers.part.shape[::-1], interpolation=cv2.INTER_CUBIC)
