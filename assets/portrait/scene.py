"""Around the sitter: the hazy country behind her, her dress and her veil."""

from __future__ import annotations

import cv2
import numpy as np

from portrait.figure import HEIGHT, WIDTH, Buffers, neckline, pose, project
from portrait.hair import guide
from portrait.paint import blur, lay, noise, ramp, smooth

CLOTH = [
    (0.0, (8, 8, 5)),
    (0.25, (22, 22, 13)),
    (0.5, (48, 46, 26)),
    (0.75, (86, 78, 42)),
    (1.0, (140, 122, 70)),
]
SLEEVE = [
    (0.0, (14, 8, 4)),
    (0.3, (48, 26, 10)),
    (0.6, (112, 66, 22)),
    (1.0, (196, 136, 58)),
]


def ridge(rng: np.random.Generator, width: int, rough: float, cell: float) -> np.ndarray:
    """A skyline, (W,) about 0, steep crags in places."""
    line = noise(rng, (4, width), cell, 6)[2]
    crag = np.abs(noise(rng, (4, width), cell * 0.8, 4)[1])
    return rough * (0.8 * line - 0.55 * crag + 0.4)


def country(zoom: float, rng: np.random.Generator) -> np.ndarray:
    """Sky, far crags in blue haze, water, and nearer brown hills with a winding road."""
    height, width = round(HEIGHT * zoom), round(WIDTH * zoom)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y /= zoom
    x /= zoom
    sky = ramp(y, [(0, (108, 122, 98)), (160, (136, 144, 110)), (330, (176, 172, 126)),
                   (470, (196, 184, 134))])  # fmt: skip
    cloud = noise(rng, (height, width), 240 * zoom, 5)
    sky += 5 * cloud[..., None] * np.float32([1, 1, 0.8])
    picture = sky
    # (skyline, roughness, cell, colour of its top, colour of its foot): far to near.
    ranges = [
        (400, 40, 190, (142, 150, 120), (174, 172, 130)),
        (450, 52, 150, (112, 128, 106), (156, 158, 122)),
        (522, 40, 170, (86, 106, 90), (134, 142, 110)),
    ]
    for level, rough, cell, top, foot in ranges:
        line = level - ridge(rng, width, rough, cell * zoom)
        # Her right side (left of the picture) lies lower than the left, as in a dream.
        line = line + 26 * smooth(np.arange(width) / zoom, 720, 260)
        below = y - line[None, :]
        body = ramp(below, [(0, top), (110, foot)])
        grain = noise(rng, (height, width), 34 * zoom, 5)
        slope = np.gradient(blur(grain, 1.5 * zoom), axis=1) * zoom
        body *= (1 + 0.05 * grain + 0.9 * np.clip(-slope, -0.12, 0.12))[..., None]
        lay(picture, body, blur(smooth(below, -0.8, 1.4), 1.2 * zoom))
    water(picture, x, y, rng, zoom)
    hills(picture, x, y, rng, zoom)
    return picture


def water(picture, x, y, rng: np.random.Generator, zoom: float) -> None:
    """A still lake with a pale far shore."""
    shore = 566 + 18 * smooth(x, 700, 300) + 5 * noise(rng, x.shape, 60 * zoom, 4)
    shade = ramp(y - shore, [(0, (158, 164, 128)), (40, (118, 132, 110)), (130, (84, 104, 90))])
    ripple = cv2.resize(noise(rng, (x.shape[0], x.shape[1] // 12), 5 * zoom, 3), x.shape[::-1])
    shade *= (1 + 0.035 * ripple)[..., None]
    lay(picture, shade, blur(smooth(y - shore, -1, 3), 1.0 * zoom))


def hills(picture, x, y, rng: np.random.Generator, zoom: float) -> None:
    """Brown foothills on both sides, a road that winds through them, a bridge far right."""
    left = 640 + 46 * np.sin(x / 70.0) * np.exp(-x / 260) - 40 * np.exp(-(((x - 120) / 90) ** 2))
    right = 668 - 30 * np.exp(-(((x - 960) / 80) ** 2)) + 10 * np.sin(x / 33.0)
    line = np.where(x < 512, left, right) + 9 * noise(rng, x.shape, 46 * zoom, 5)
    below = y - line
    body = ramp(below, [(0, (112, 104, 66)), (60, (104, 80, 46)), (200, (84, 56, 32)),
                        (420, (52, 34, 20)), (640, (32, 22, 14))])  # fmt: skip
    rock = noise(rng, x.shape, 60 * zoom, 6)
    slope = np.gradient(blur(rock, 1.2 * zoom), axis=1) * zoom
    body *= (1 + 0.07 * rock + 1.3 * np.clip(-slope, -0.12, 0.12))[..., None]
    lay(picture, body, blur(smooth(below, -2, 5), 1.2 * zoom))
    layer = np.zeros(x.shape, np.uint8)
    t = np.linspace(0, 1, 160)
    road = np.stack([150 - 40 * t + 92 * np.sin(9.5 * t**0.75) * (0.35 + 0.9 * t),
                     684 + 250 * t**1.5], axis=1)  # fmt: skip
    for k in range(len(t) - 1):
        cv2.line(layer, *[tuple(np.round(p * zoom).astype(int).tolist()) for p in road[k : k + 2]],
                 255, max(round((3 + 24 * t[k] ** 1.3) * zoom), 1), cv2.LINE_AA)  # fmt: skip
    lay(picture, np.float32([176, 128, 74]) + 0 * picture,
        0.62 * blur(layer.astype(np.float32) / 255, 2.2 * zoom))  # fmt: skip
    layer[:] = 0
    river = np.stack([1040 - 150 * t + 70 * np.sin(8 * t), 690 + 190 * t**1.3], axis=1)
    cv2.polylines(layer, [np.round(river * zoom).astype(np.int32)], False, 255,
                  round(13 * zoom), cv2.LINE_AA)  # fmt: skip
    lay(picture, np.float32([128, 142, 116]) + 0 * picture,
        0.6 * blur(layer.astype(np.float32) / 255, 2.0 * zoom))  # fmt: skip
    bridge(picture, x.shape, zoom)


def bridge(picture: np.ndarray, shape: tuple[int, int], zoom: float) -> None:
    """Three low arches over the river, as far away as a thought."""
    layer = np.zeros(shape, np.uint8)
    cv2.rectangle(layer, (round(905 * zoom), round(722 * zoom)),
                  (round(1024 * zoom), round(737 * zoom)), 255, -1)  # fmt: skip
    for k in range(4):
        centre = (round((922 + 30 * k) * zoom), round(739 * zoom))
        cv2.ellipse(layer, centre, (round(11 * zoom), round(11 * zoom)), 0, 180, 360, 0, -1)
    lay(picture, np.float32([150, 122, 82]) + 0 * picture,
        0.75 * blur(layer.astype(np.float32) / 255, 1.2 * zoom))  # fmt: skip


def dress(picture: np.ndarray, buffers: Buffers, value: np.ndarray, rng) -> np.ndarray:
    """Cloth below the neckline, with pleats, an embroidered border and warm sleeves."""
    z = buffers.zoom
    rest = buffers.rest
    below = neckline(rest) - rest[..., 1]
    cloth = smooth(below, -0.004, 0.012) * (rest[..., 1] < 5.7) * (buffers.part == 0)
    cloth = cloth.astype(np.float32)
    # Fine pleats run down from the border and lose themselves; broad folds take over.
    around = rest[..., 0] * 34 + 2.2 * noise(rng, value.shape, 150 * z, 3)
    pleats = np.sin(around) * 0.7 + 0.5 * np.sin(2.3 * around + 1)
    broad = np.sin(rest[..., 0] * 7 + rest[..., 1] * 2.4 + 1.5 * noise(rng, value.shape, 300 * z, 3))
    fade = smooth(below, 1.0, 0.05)
    tone = blur(value, 5 * z) * (1 + 0.42 * fade * pleats + 0.30 * (1 - fade) * broad)
    tone = tone * (0.9 + 0.05 * noise(rng, value.shape, 9 * z, 3)) * smooth(below, 2.6, -0.6)
    colour = ramp(0.80 * tone, CLOTH)
    arm = smooth(np.abs(rest[..., 0]), 1.62, 1.82)
    lay(colour, ramp(1.0 * tone * (1 + 0.35 * broad), SLEEVE), arm)
    border = smooth(below, 0.0, 0.015) * smooth(below, 0.12, 0.10)
    knot = 0.5 + 0.5 * np.sin(rest[..., 0] * 60) * np.sin(below * 110)
    gold = ramp(tone * (0.45 + 0.5 * knot), [(0, (22, 16, 8)), (0.5, (104, 80, 38)),
                                             (1, (190, 156, 84))])  # fmt: skip
    lay(colour, gold, 0.75 * border)
    lay(picture, colour, blur(cloth, 0.8 * z))
    # The dress lays a soft edge of shade on the skin above it.
    edge = smooth(below, -0.10, 0.0) * (1 - cloth) * (buffers.part == 0)
    picture *= (1 - 0.28 * edge)[..., None]
    return cloth


def mantle(picture: np.ndarray, buffers: Buffers) -> None:
    """Close the gaps between arms and body with dark cloth."""
    z = buffers.zoom
    solid = buffers.part >= 0
    rows = np.arange(solid.shape[0])
    first = solid.argmax(axis=1)
    last = solid.shape[1] - 1 - solid[:, ::-1].argmax(axis=1)
    column = np.arange(solid.shape[1])[None, :]
    gap = (column > first[:, None]) & (column < last[:, None]) & ~solid
    gap = cv2.dilate(gap.astype(np.uint8), np.ones((3, 3)), iterations=round(4 * z)) > 0
    gap &= (rows[:, None] > 900 * z) & solid.any(axis=1)[:, None]
    lay(picture, np.float32([11, 9, 6]) + 0 * picture, blur(gap.astype(np.float32), 2 * z))


def veil(picture: np.ndarray, buffers: Buffers, rng: np.random.Generator) -> None:
    """A thin dark gauze over the hair, its hem a fine line on the forehead."""
    z = buffers.zoom
    sides = []
    for side in (-1, 1):
        path = guide(0.35, side)
        out = path - np.array([0, 6.6, 0.3])
        out[:, 1] = np.clip(out[:, 1], 0, None)
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        flow = smooth(path[:, 1], 6.6, 4.8)[:, None] * [0.16 * side, 0, 0]
        sides.append(project(pose(path + 0.10 * out + flow), z)[:, :2])
    outline = np.round(np.concatenate([sides[0][::-1], sides[1]])).astype(np.int32)
    mask = np.zeros(buffers.part.shape, np.uint8)
    cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA)
    body = blur(mask.astype(np.float32) / 255, 1.5 * z)
    face = blur(((buffers.part >= 0) & (buffers.rest[..., 2] > 0.2)).astype(np.float32), 1.5 * z)
    lay(picture, np.float32([34, 27, 17]) + 0 * picture, 0.34 * body * (1 - face))
    line = np.zeros(buffers.part.shape, np.uint8)
    for points in sides:
        cv2.polylines(line, [np.round(points * 16).astype(np.int32)], False, 255, round(1.5 * z),
                      cv2.LINE_AA, 4)  # fmt: skip
    lay(picture, np.float32([88, 70, 44]) + 0 * picture, 0.14 * blur(line / np.float32(255), 0.8 * z))
