"""Hair: locks of strands combed from a centre parting over a skull, down to the chest."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from portrait.figure import Buffers, pose, project
from portrait.light import KEY
from portrait.paint import blur, blur_within, lay, ramp, smooth

SKULL = np.array([0.0, 7.05, 0.42])
RADII = np.array([0.80, 1.03, 0.97])
# Where the combed hair passes, front lock and back lock, on her left side (unturned body).
FRONT = np.array([
    [0.62, 7.24, 1.04], [0.73, 6.84, 0.92], [0.745, 6.40, 0.84], [0.70, 5.95, 0.70],
    [0.66, 5.45, 0.74], [0.68, 4.95, 1.04], [0.70, 4.45, 1.30], [0.62, 4.02, 1.36],
])  # fmt: skip
BACK = np.array([
    [0.66, 7.52, -0.15], [0.86, 7.00, -0.12], [0.94, 6.50, -0.12], [0.96, 5.95, -0.02],
    [1.00, 5.45, 0.30], [1.06, 4.95, 0.80], [1.02, 4.45, 1.16], [0.90, 4.00, 1.26],
])  # fmt: skip
TONES = [
    (0.00, (9, 6, 5)),
    (0.25, (26, 15, 9)),
    (0.50, (56, 32, 17)),
    (0.75, (104, 63, 32)),
    (1.00, (166, 112, 62)),
]


@dataclass(frozen=True)
class Strand:
    """One hair: (K, 3) points in camera space, (K,) tone, half width in picture units, order."""

    points: np.ndarray
    tone: np.ndarray
    width: float
    depth: float


def on_skull(direction: np.ndarray, lift: float = 0.0) -> np.ndarray:
    return SKULL + (RADII + lift) * direction / np.linalg.norm(direction)


def spline(knots: np.ndarray, count: int) -> np.ndarray:
    """Catmull-Rom curve through (K, 3) knots, (count, 3)."""
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, len(knots) - 1 - 1e-6, count)
    i = t.astype(int)
    f = (t - i)[:, None]
    a, b, c, d = (padded[i + k] for k in range(4))
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2
                  + (3 * b - a - 3 * c + d) * f**3)  # fmt: skip


def guide(place: float, side: int) -> np.ndarray:
    """Path of the lock that leaves the parting at ``place`` (0 = hairline, 1 = crown)."""
    angle = np.radians(32 + 88 * place)
    up = np.array([0.0, np.sin(angle), np.cos(angle)])
    late = (1 - place) * FRONT + place * BACK
    late[:2, 0] += 0.10 * place * (1 - place)
    late[:1, 1] += 0.50 * place * (1 - place)
    root = on_skull(up + [0.012, 0, 0])
    toward = (late[0] - SKULL) / RADII
    arch = np.array([0, 0.13 * (1 - place), 0])
    knots = [root, on_skull(0.74 * up + 0.32 * toward + 0.8 * arch, 0.015),
             on_skull(0.38 * up + 0.70 * toward + arch, 0.02)]  # fmt: skip
    path = spline(np.concatenate([np.asarray(knots), late]), 64)
    return path * [side, 1, 1]


def shade(rest: np.ndarray, posed: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Tone along one strand: light by the roundness of the head, gloss by the run of the hair."""
    out = rest - np.array([0.0, 0.0, 0.32])
    out[:, 1] = np.clip(rest[:, 1] - 7.0, 0, None)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    out = out + 4.0 * offset
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    out = pose(rest + 0.01 * out) - pose(rest)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    along = np.gradient(posed, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    halfway = KEY + np.array([0, 0, 1.0])
    halfway /= np.linalg.norm(halfway)
    facing = np.clip(0.30 + 0.70 * (out @ KEY), 0, 1)
    gloss = np.clip(1 - (along @ halfway) ** 2, 0, 1) ** 14
    gloss *= smooth(np.arange(len(gloss)), -6, 9)
    low = smooth(rest[:, 1], 4.3, 6.2)
    value = 0.06 + 0.36 * facing * (0.7 + 0.3 * low) + 0.42 * gloss * facing
    padded = np.pad(value, 4, mode="edge")
    return np.convolve(padded, np.hanning(11)[1:-1] / np.hanning(11).sum(), "valid")


def strands(
    rng: np.random.Generator, locks: int, each: int, width: float, short: int
) -> list[Strand]:
    """All strands of both sides; they end ``short`` of 64 steps before their locks do."""
    out = []
    for side in (-1, 1):
        for lock in range(locks):
            place = (lock + rng.uniform(-0.4, 0.4)) / (locks - 1)
            place = float(np.clip(place, 0.0, 1.0)) ** 1.25
            path = guide(place, side)
            down = smooth(path[:, 1], 6.6, 5.0)
            nearness = float(pose(path)[:, 2].mean()) + rng.normal(0, 0.06)
            phase, turns = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.85)
            swing = rng.uniform(0.5, 1.0) * (0.006 + 0.06 * down)
            sway = np.zeros_like(path)
            sway[:, 0] = 0.055 * down * np.sin(2 * np.pi * path[:, 1] / 1.15 + 1.3 * side)
            drift = rng.normal(0, 1, 3) * [0.05, 0.0, 0.03]
            ends = int(rng.integers(0, 8))
            tip = np.linspace(0, 1, 64) ** 5
            bright = rng.normal(0, 0.035)
            for _ in range(each):
                angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 1))
                thick = (0.022 + 0.032 * down) * (1 - 0.8 * tip)
                offset = np.stack([np.cos(angle) * thick, 0 * down, np.sin(angle) * thick], 1)
                offset *= radius
                wave = 2 * np.pi * path[:, 1] / turns + phase + rng.normal(0, 0.16)
                curl = np.stack([np.sin(wave), 0 * wave, np.cos(wave)], axis=1) * swing[:, None]
                if rng.uniform() < 0.05:
                    offset = offset * 2.2  # a hair that has strayed from its lock
                rest = path + offset + curl + sway + drift * down[:, None]
                # A part of the hairs ends early, so that the tips thin out.
                stop = 64 - int(22 * rng.beta(1.1, 2.2)) - ends - short
                start = int(rng.integers(0, 2))
                rest = rest[start:stop]
                posed = pose(rest)
                tone = shade(rest, posed, (offset + 0.35 * curl)[start:stop])
                # Tips thin out and darken; near the parting there is no gloss yet.
                left = np.arange(len(tone), 0, -1)
                tone = (tone + bright) * (1 - 0.6 * smooth(left, 12, 0)) + rng.normal(0, 0.035)
                rank = nearness + 0.3 * float(offset[:, 2].mean())
                out.append(Strand(posed, tone, width * rng.uniform(0.7, 1.3), rank))
    return out


def draw(picture: np.ndarray, hairs: list[Strand], buffers: Buffers) -> None:
    """Lay strands on uint8 ``picture`` (H, W, 3) in place, lock after lock, far to near."""
    z = buffers.zoom
    height, width = picture.shape[:2]
    for strand in sorted(hairs, key=lambda s: s.depth):
        pixels = project(strand.points, z)
        column = np.clip(pixels[:, 0].astype(int), 0, width - 1)
        row = np.clip(pixels[:, 1].astype(int), 0, height - 1)
        solid = (buffers.part[row, column] >= 0) & (buffers.rest[row, column, 1] > 5.75)
        hidden = solid & (strand.points[:, 2] < buffers.position[row, column, 2] - 0.02)
        colour = ramp(strand.tone, TONES)
        at = np.round(pixels[:, :2] * 16).astype(np.int32)
        thick = max(round(2 * strand.width * z), 1)
        # Long pieces on the smooth crown, short ones where the locks wave.
        marks = [*range(0, 30, 3), *range(30, len(at))]
        for k, end in pairwise(marks):
            if not hidden[k : end + 1].any():
                cv2.polylines(
                    picture, [at[k : end + 1]], False, colour[k].tolist(), thick, cv2.LINE_AA, 4
                )


def behind(picture: np.ndarray, buffers: Buffers) -> None:
    """The dark mass of hair behind neck and head."""
    z = buffers.zoom
    outline = []
    for side in (-1, 1):
        path = guide(0.75, side)[8:50] * [0.93, 1, 1]
        pixels = project(pose(path), z)[:, :2]
        outline.append(pixels if side < 0 else pixels[::-1])
    mask = np.zeros(buffers.part.shape, np.uint8)
    cv2.fillPoly(mask, [np.round(np.concatenate(outline)).astype(np.int32)], 255, cv2.LINE_AA)
    lay(picture, np.float32([15, 9, 6]) + 0 * picture, blur(mask.astype(np.float32) / 255, 3 * z))


def comb(picture: np.ndarray, buffers: Buffers, rng: np.random.Generator) -> None:
    """Paint the hair over ``picture`` in place: first its mass, then the hairs."""
    z = buffers.zoom
    mass = np.zeros(picture.shape, np.uint8)
    draw(mass, strands(rng, 44, 5, 4.5, 7), buffers)
    cover = mass.any(axis=-1).astype(np.float32)
    # The mass of hair throws a soft shade on forehead, cheeks and neck.
    shaded = blur(np.roll(cover, round(4 * z), axis=0), 7 * z)
    picture *= (1 - 0.55 * smooth(shaded, 0.05, 0.9))[..., None]
    under = blur_within(0.6 * mass.astype(np.float32), cover, 1.6 * z)
    lay(picture, under, blur(cover, 1.6 * z))
    before = np.clip(picture, 0, 255).astype(np.uint8)
    after = before.copy()
    draw(after, strands(rng, 80, 36, 0.55, 0), buffers)
    touched = blur((after != before).any(axis=-1).astype(np.float32), 0.4 * z)
    lay(picture, blur(after.astype(np.float32), 0.35 * z), 0.95 * touched)
