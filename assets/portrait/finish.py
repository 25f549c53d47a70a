"""What paint and four centuries do: brushwork, canvas, varnish, craquelure."""

from __future__ import annotations

import cv2
import numpy as np
from portrait.paint import blur, noise


def orientation(picture: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along the form (across the gradient); where there is none, a calm slant."""
    grey = blur(picture.mean(axis=-1), sigma * 0.4)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    xx, yy, xy = blur(gx * gx, sigma), blur(gy * gy, sigma), blur(gx * gy, sigma)
    calm = 5.0
    angle = 0.5 * np.arctan2(2 * xy - calm * 0.5, xx - yy - calm) + np.pi / 2
    return np.cos(angle), np.sin(angle)


def along(plane: np.ndarray, dx: np.ndarray, dy: np.ndarray, length: int) -> np.ndarray:
    """Mean of ``plane`` along the field (line integral convolution)."""
    height, width = dx.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    total, count = plane.copy(), 1
    for sign in (-1, 1):
        px, py = x.copy(), y.copy()
        last_x, last_y = sign * dx, sign * dy
        for _ in range(length):
            vx = cv2.remap(dx, px, py, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            vy = cv2.remap(dy, px, py, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            flip = np.where(vx * last_x + vy * last_y < 0, -1.0, 1.0).astype(np.float32)
            last_x, last_y = vx * flip, vy * flip
            px += 1.5 * last_x
            py += 1.5 * last_y
            total += cv2.remap(plane, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            count += 1
    return total / count


def cracks(shape: tuple[int, int], rng: np.random.Generator, cell: float) -> np.ndarray:
    """Network of fine cracks, (H, W) 0..1: borders of warped random cells."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x += 2.2 * noise(rng, shape, 30, 2)
    y += 2.2 * noise(rng, shape, 30, 2)
    columns, rows = int(width / cell) + 4, int(height / cell) + 4
    seeds = rng.uniform(0, 1, (rows, columns, 2)).astype(np.float32)
    best = np.full(shape, 1e9, np.float32)
    second = best.copy()
    cx, cy = np.floor(x / cell).astype(int), np.floor(y / cell).astype(int)
    for j in (-1, 0, 1):
        for i in (-1, 0, 1):
            seed = seeds[(cy + j) % rows, (cx + i) % columns]
            far = np.hypot(x - (cx + i + seed[..., 0]) * cell, y - (cy + j + seed[..., 1]) * cell)
            second = np.minimum(second, np.maximum(best, far))
            best = np.minimum(best, far)
    line = np.clip(1 - (second - best) / 1.3, 0, 1)
    patch = np.clip(0.5 + 0.28 * noise(rng, shape, 130, 3), 0, 1)
    return blur(line * patch, 0.5)


def varnish(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The finished surface of a (H, W, 3) float picture, 0..255."""
    shape = picture.shape[:2]
    dx, dy = orientation(picture, 7.0)
    grain = rng.standard_normal(shape).astype(np.float32)
    bristle = along(blur(grain, 0.7), dx, dy, 9)
    bristle /= bristle.std()
    softened = np.stack([along(picture[..., k].copy(), dx, dy, 2) for k in range(3)], axis=-1)
    out = 0.55 * picture + 0.45 * softened
    light = out.mean(axis=-1, keepdims=True) / 255
    relief = bristle[..., None] * (0.8 + 1.1 * light)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    weave = np.sin(x * 1.9 + 0.6 * noise(rng, shape, 40, 2)) + np.sin(
        y * 1.9 + 0.6 * noise(rng, shape, 40, 2)
    )
    out = out + relief + 0.38 * weave[..., None] + 0.9 * grain[..., None]
    crack = cracks(shape, rng, 15.0)[..., None]
    out = out * (1 - 0.075 * crack * (0.35 + light)) + 1.2 * np.roll(crack, 1, axis=0) * light
    out = out * np.float32([1.0, 0.985, 0.90]) + np.float32([3.0, 2.5, 1.0])
    edge = np.hypot((x / shape[1] - 0.47) / 0.80, (y / shape[0] - 0.42) / 0.80)
    return out * (1 - 0.22 * np.clip(edge - 0.35, 0, 1) ** 1.5)[..., None]
