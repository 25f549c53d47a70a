"""Flesh: tones by light, blushes by place, lips, eyes, brows and lashes."""

from __future__ import annotations

import cv2
import numpy as np
from portrait import head
from portrait.figure import Buffers, pose, project
from portrait.light import KEY
from portrait.paint import blur, blur_within, lay, noise, ramp, smooth

FLESH = [
    (0.00, (30, 17, 9)),
    (0.15, (62, 35, 18)),
    (0.32, (114, 73, 41)),
    (0.50, (164, 118, 71)),
    (0.68, (206, 162, 107)),
    (0.85, (233, 197, 142)),
    (1.00, (250, 222, 170)),
]


def near(
    rest: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, ...]
) -> np.ndarray:
    """Bell around a place on the unturned head; |x| so that both sides get it."""
    place = np.concatenate([np.abs(rest[..., :1]), rest[..., 1:]], axis=-1)
    return np.exp(-0.5 * (((place - np.asarray(centre)) / np.asarray(radii)) ** 2).sum(axis=-1))


def texture_mask(buffers: Buffers, name: str) -> np.ndarray:
    picture = head.mask_picture(name)
    size = picture.shape[0]
    x = buffers.uv[..., 0] * size - 0.5
    y = (1 - buffers.uv[..., 1]) * size - 0.5
    found = cv2.remap(picture, x, y, cv2.INTER_LINEAR)
    return found * (buffers.part == 0)


def tone(buffers: Buffers, reach: np.ndarray, open_: np.ndarray) -> np.ndarray:
    """Light on flesh before colour, (H, W) about 0..1: key, cool fill, and light within."""
    facing = np.clip((buffers.normal @ KEY + 0.18) / 1.18, 0, 1).astype(np.float32)
    sky = 0.5 + 0.5 * buffers.normal[..., 1]
    bounce = np.clip(buffers.normal @ np.array([0.75, -0.25, 0.45]), 0, 1)
    mask = (buffers.part == 0).astype(np.float32)
    key = facing**1.1 * reach
    key = 0.45 * key + 0.55 * blur_within(key, mask, 5.0 * buffers.zoom)
    fill = open_**1.3 * (0.17 + 0.07 * sky) + 0.07 * bounce * open_
    return (0.80 * key * (0.45 + 0.55 * open_) + fill) * mask


def flesh(buffers: Buffers, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour of the skin, (H, W, 3)."""
    z = buffers.zoom
    rest = buffers.rest
    shape = value.shape
    value = value * (1 + 0.012 * noise(rng, shape, 26 * z, 4))
    colour = ramp(value, FLESH)
    red = (
        0.50 * near(rest, (0.44, 6.43, 1.30), (0.17, 0.12, 0.4))
        + 0.30 * near(rest, (0.0, 6.42, 1.60), (0.10, 0.10, 0.2))
        + 0.22 * near(rest, (0.0, 5.93, 1.40), (0.16, 0.08, 0.4))
        + 0.18 * near(rest, (0.30, 6.72, 1.30), (0.17, 0.05, 0.3))
    )
    lay(colour, colour * np.array([1.02, 0.80, 0.74], np.float32), np.clip(red, 0, 1))
    # Smoke about the corners of mouth and eyes: here the smile lives.
    smoke = 0.34 * near(rest, (0.245, 6.225, 1.27), (0.045, 0.040, 0.2))
    smoke += 0.16 * near(rest, (0.30, 6.20, 1.25), (0.05, 0.10, 0.3))
    smoke += 0.20 * near(rest, (0.0, 6.02, 1.35), (0.12, 0.025, 0.2))
    lay(colour, colour * np.array([0.66, 0.55, 0.46], np.float32), np.clip(smoke, 0, 1))
    cool = 0.35 * near(rest, (0.30, 6.90, 1.3), (0.18, 0.06, 0.4))
    lay(colour, colour * np.array([0.90, 0.90, 0.92], np.float32), cool)
    lips = blur(texture_mask(buffers, "lips"), 1.3 * z)
    tint = ramp(value, [(0, (40, 14, 10)), (0.4, (122, 58, 42)), (0.7, (184, 100, 76)),
                        (1, (226, 150, 120))])  # fmt: skip
    lay(colour, tint, 0.78 * lips)
    part_lips(colour, buffers, lips)
    return colour


def part_lips(colour: np.ndarray, buffers: Buffers, lips: np.ndarray) -> None:
    """The dark line where the lips meet: there the surface turns from facing down to up."""
    z = buffers.zoom
    rise = blur(buffers.normal[..., 1].copy(), 0.8 * z)
    columns = np.flatnonzero((lips > 0.5).any(axis=0))
    rows = []
    for x in columns:
        inside = np.flatnonzero(lips[:, x] > 0.3)
        rows.append(inside[0] + int(np.argmax(np.diff(rise[inside[0] : inside[-1] + 1, x]))))
    t = np.linspace(-1, 1, len(columns))
    fit = np.polyval(np.polyfit(t, rows, 8, w=1.3 - t**2), t)
    layer = np.zeros(lips.shape, np.uint8)
    for x, y, s in zip(columns, fit, t, strict=True):
        radius = max(round((0.55 + 0.9 * (1 - s * s)) * z * 16), 8)
        cv2.circle(layer, (int(x) * 16, round(y * 16)), radius, 255, -1, cv2.LINE_AA, 4)
    soft = blur(layer.astype(np.float32) / 255, 0.7 * z)
    lay(colour, np.float32([58, 20, 14]) + 0 * colour, 0.62 * soft)


def sheen(buffers: Buffers, reach: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Soft gloss of the oil on nose, brow, lower lip, (H, W)."""
    halfway = KEY + np.array([0, 0, 1.0])
    halfway /= np.linalg.norm(halfway)
    facing = np.clip(buffers.normal @ halfway, 0, 1)
    lips = blur(texture_mask(buffers, "lips"), 1.0 * buffers.zoom)
    mask = (buffers.part == 0).astype(np.float32)
    gloss = 0.06 * facing**14 + 0.05 * facing**50 + lips * 0.22 * facing**40
    grain = 1 + 0.15 * noise(rng, facing.shape, 6 * buffers.zoom, 3)
    return blur(gloss * reach * mask * grain, 0.8 * buffers.zoom)


def eye(buffers: Buffers, which: int, open_: np.ndarray) -> np.ndarray:
    """Colour of one eyeball, (H, W, 3), valid where ``part`` is ``which + 1``."""
    z = buffers.zoom
    mask = (buffers.part == which + 1).astype(np.float32)
    centre = buffers.eyes[which]
    spot = (buffers.position - centre) / buffers.eye_radius
    spot /= np.maximum(np.linalg.norm(spot, axis=-1, keepdims=True), 1e-6)
    gaze = np.array([0.045 + 0.01 * which, -0.015, 1.0])
    gaze /= np.linalg.norm(gaze)
    angle = np.arccos(np.clip(spot @ gaze, -1, 1)) / 0.45
    facing = np.clip(0.25 + 0.75 * (spot @ KEY), 0, 1)
    white = ramp(facing, [(0, (70, 50, 36)), (0.5, (158, 132, 102)), (0.9, (206, 186, 152))])
    side = np.arctan2(spot[..., 1] - gaze[1], spot[..., 0] - gaze[0])
    rays = 0.5 + 0.5 * np.sin(side * 23 + 2 * np.sin(side * 7)) * np.sin(side * 11 + 1)
    lower = smooth(-np.sin(side - 0.5), -0.6, 1)
    depth = 0.25 + 0.45 * lower * smooth(angle, 0.3, 0.75) + 0.12 * rays
    iris = ramp(depth, [(0, (20, 11, 7)), (0.4, (66, 40, 20)), (0.8, (120, 78, 40))])
    lay(iris, np.float32([14, 8, 6]) + 0 * iris, 0.75 * smooth(angle, 0.80, 1.02))
    lay(iris, np.float32([8, 5, 4]) + 0 * iris, 1 - smooth(angle, 0.34, 0.46))
    out = white
    lay(out, iris, 1 - smooth(angle, 0.92, 1.10))
    # The upper lid and its lashes throw a shadow on the ball.
    rows = np.cumsum(mask, axis=0) / (z * 1.0)
    lid = 1 - 0.62 * np.exp(-np.clip(rows - 1, 0, None) / 5.0)
    corner = 1 - blur(mask, 5.0 * z)
    out = out * (lid * (1 - 0.55 * smooth(corner, 0.25, 0.75)))[..., None]
    out *= (0.72 + 0.28 * open_)[..., None]
    spark = np.array([-0.13, 0.10, 1.0]) + gaze * [1, 1, 0]
    spark /= np.linalg.norm(spark)
    light = np.exp(-0.5 * ((1 - np.clip(spot @ spark, -1, 1)) / 0.0028))
    lay(out, np.float32([244, 232, 205]) + 0 * out, 0.85 * light * mask)
    return out


def eyes(picture: np.ndarray, buffers: Buffers, open_: np.ndarray) -> None:
    """Paint both eyeballs, the lash lines and the wet border of the lower lids."""
    z = buffers.zoom
    for which in range(2):
        mask = (buffers.part == which + 1).astype(np.float32)
        colour = eye(buffers, which, open_)
        soft = blur(mask, 0.7 * z)
        filled = np.where(mask[..., None] > 0, colour, 0)
        filled = blur(filled, 0.6 * z) / np.maximum(blur(mask, 0.6 * z), 1e-3)[..., None]
        lay(picture, filled, soft)
        columns = np.flatnonzero(mask.any(axis=0))
        top = mask[:, columns].argmax(axis=0)
        bottom = mask.shape[0] - 1 - mask[::-1, columns].argmax(axis=0)
        lashes(picture, columns, top, bottom, which, z)


def lashes(
    picture: np.ndarray,
    columns: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    which: int,
    z: float,
) -> None:
    """Dark soft upper lash line, the inner corner, a pale wet line below."""
    x = columns.astype(float)
    fit = lambda y: np.polyval(np.polyfit(x - x.mean(), y, 5), x - x.mean())  # noqa: E731
    upper, lower = fit(top), fit(bottom)
    share = (x - x[0]) / (x[-1] - x[0])
    outer = share if which == 0 else 1 - share
    dark, pale = np.float32([26, 14, 9]), np.float32([190, 132, 96])

    def glaze(y: np.ndarray, colour: np.ndarray, width: np.ndarray, alpha: float) -> None:
        layer = np.zeros(picture.shape[:2], np.uint8)
        for i in range(0, len(x), 2):
            spot = (round(x[i] * 16), round(y[i] * 16))
            cv2.circle(layer, spot, round(float(width[i]) * z * 8), 255, -1, cv2.LINE_AA, 4)
        lay(picture, colour + 0 * picture, alpha * blur(layer.astype(np.float32) / 255, 0.9 * z))

    # The pink inner corner, and a faint dark root of the lashes all around.
    inner = np.clip(1 - outer, 0, 1) ** 10
    glaze(0.4 * upper + 0.6 * lower, np.float32([168, 96, 70]), 0.3 + 2.0 * inner, 0.45)
    glaze(upper + 0.2 * z, dark, 0.8 + 2.2 * outer**0.7, 0.80)
    glaze(lower + 0.9 * z, pale, 1.6 + 0 * x, 0.38)
    glaze(lower + 2.4 * z, np.float32([70, 36, 22]), 1.0 + 0.6 * outer, 0.26)


def brows(picture: np.ndarray, buffers: Buffers, rng: np.random.Generator) -> None:
    """Thin brows of fine hairs over the bone of each socket."""
    z = buffers.zoom
    layer = np.zeros(picture.shape[:2], np.uint8)
    for side in (-1, 1):
        t = np.linspace(0, 1, 60)
        spine = np.stack([side * (0.125 + 0.40 * t), brow_height(t), brow_depth(t)], axis=1)
        along = project(pose(spine), z)[:, :2]
        for _ in range(230):
            s = rng.uniform(0, 0.97)
            i = int(s * 59)
            step = along[min(i + 1, 59)] - along[max(i - 1, 0)]
            step /= np.linalg.norm(step)
            up = np.array([step[1], -step[0]]) * side
            width = (5.2 - 3.9 * s**1.3) * z
            root = along[i] + up * rng.normal(0, 0.38) * width
            lean = 0.55 * (1 - s) ** 1.5 + rng.normal(0, 0.08)
            way = step * np.cos(lean) + up * np.sin(lean)
            tip = root + way * rng.uniform(6, 11) * z
            line = np.round(np.stack([root, tip]) * 16).astype(np.int32)
            strength, thick = float(rng.uniform(60, 170)), max(round(0.7 * z), 1)
            cv2.polylines(layer, [line], False, strength, thick, cv2.LINE_AA, 4)
    hairs = layer.astype(np.float32) / 255
    layer = 0.50 * blur(hairs, 0.6 * z) + 0.62 * blur(hairs, 2.4 * z)
    lay(picture, np.float32([50, 27, 13]) + 0 * picture, np.clip(1.1 * layer, 0, 0.70))


def brow_height(t: np.ndarray) -> np.ndarray:
    return 6.93 + 0.075 * np.sin(np.pi * 0.62 * t) - 0.05 * t**2


def brow_depth(t: np.ndarray) -> np.ndarray:
    return 1.42 - 0.03 * t - 0.24 * t**2
