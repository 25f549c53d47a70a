"""Around the sitter: the hazy country behind her, her dress and her veil."""

from __future__ import annotations

import cv2
import numpy as np
from portrait.figure import HEIGHT, WIDTH, Buffers, neckline, pose, project
from portrait.hair import guide
from portrait.paint import blur, blur_within, lay, noise, ramp, smooth

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


def water(
    picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, zoom: float
) -> None:
    """A still lake with a pale far shore."""
    shore = 566 + 18 * smooth(x, 700, 300) + 5 * noise(rng, x.shape, 60 * zoom, 4)
    shade = ramp(y - shore, [(0, (158, 164, 128)), (40, (118, 132, 110)), (130, (84, 104, 90))])
    ripple = cv2.resize(noise(rng, (x.shape[0], x.shape[1] // 12), 5 * zoom, 3), x.shape[::-1])
    shade *= (1 + 0.035 * ripple)[..., None]
    lay(picture, shade, blur(smooth(y - shore, -1, 3), 1.0 * zoom))


def hills(
    picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, zoom: float
) -> None:
    """Brown foothills, one before the other, a road that winds through them, a river, a bridge."""
    across = x[0]
    # (height of the skyline, relief, cell, colour of its top, colour below): far to near.
    layers = [
        (636, 20, 120, (124, 122, 84), (116, 96, 60)),
        (690, 34, 150, (112, 92, 56), (98, 70, 40)),
        (800, 40, 190, (92, 64, 36), (70, 46, 27)),
        (930, 34, 210, (66, 44, 26), (36, 25, 16)),
    ]
    for k, (level, relief, cell, top, foot) in enumerate(layers):
        line = level - relief * (0.55 * noise(rng, (4, len(across)), cell * zoom, 4)[2])
        line = line + 26 * np.cos((across - 512) / 512 * np.pi * 0.9 + 0.4 * k) * (k < 3)
        below = y - line[None, :]
        body = ramp(below, [(0, top), (150, foot)])
        # Rocks: ridges that run down the slope, lit from the left.
        run = noise(rng, x.shape, 70 * zoom, 5)
        grain = cv2.remap(run, (x + 0.35 * below) * zoom, 0.55 * y * zoom, cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_REFLECT)  # fmt: skip
        slope = np.gradient(blur(grain, 2.2 * zoom), axis=1) * zoom
        body *= (1 + 0.05 * grain + 1.5 * np.clip(-slope, -0.10, 0.10))[..., None]
        lay(picture, body, blur(smooth(below, -2, 4), 1.6 * zoom))
        # Mist gathers at the foot of each hill.
        mist = 0.16 * (3 - k) / 3 * smooth(below, 30, 110)
        lay(picture, np.float32([150, 142, 104]) + 0 * picture, mist)
        if k == 1:
            river(picture, zoom)
            bridge(picture, x.shape, zoom)
        if k == 2:
            road(picture, zoom)


def ribbon(
    picture: np.ndarray,
    points: np.ndarray,
    widths: np.ndarray,
    colour: tuple[int, int, int],
    alpha: float,
    zoom: float,
) -> None:
    """A soft band of changing width along (K, 2) ``points``."""
    layer = np.zeros(picture.shape[:2], np.uint8)
    for point, wide in zip(points, widths, strict=True):
        axes = (max(round(wide * zoom * 16), 16), max(round(0.45 * wide * zoom * 16), 12))
        centre = (round(point[0] * zoom * 16), round(point[1] * zoom * 16))
        cv2.ellipse(layer, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
    soft = blur(layer.astype(np.float32) / 255, 1.6 * zoom)
    lay(picture, np.float32(colour) + 0 * picture, alpha * soft)


def road(picture: np.ndarray, zoom: float) -> None:
    """It comes towards us in bends that widen."""
    t = np.linspace(0, 1, 500)
    points = np.stack([118 + 74 * np.sin(10.5 * t**0.7 + 0.4) * (0.30 + 0.8 * t) - 50 * t,
                       706 + 270 * t**1.7], axis=1)  # fmt: skip
    ribbon(picture, points, 2.5 + 15 * t**1.4, (178, 134, 82), 0.55, zoom)


def river(picture: np.ndarray, zoom: float) -> None:
    t = np.linspace(0, 1, 400)
    points = np.stack([990 - 60 * t + 62 * np.sin(7.5 * t**0.8) * (0.4 + 0.6 * t),
                       668 + 130 * t**1.3], axis=1)  # fmt: skip
    ribbon(picture, points, 5 + 15 * t, (132, 142, 112), 0.62, zoom)


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


def dress(
    picture: np.ndarray, buffers: Buffers, value: np.ndarray, rng: np.random.Generator
) -> None:
    """Cloth below the neckline, with pleats, an embroidered border and warm sleeves."""
    z = buffers.zoom
    rest = buffers.rest
    below = neckline(rest) - rest[..., 1]
    cloth = smooth(below, -0.004, 0.012) * (rest[..., 1] < 5.7) * (buffers.part == 0)
    cloth = cloth.astype(np.float32)
    # Fine pleats run down from the border and lose themselves; broad folds take over.
    around = rest[..., 0] * 34 + 2.2 * noise(rng, value.shape, 150 * z, 3)
    pleats = np.sin(around) * 0.7 + 0.5 * np.sin(2.3 * around + 1)
    stray = 1.5 * noise(rng, value.shape, 300 * z, 3)
    broad = np.sin(rest[..., 0] * 7 + rest[..., 1] * 2.4 + stray)
    fade = smooth(below, 1.0, 0.05)
    tone = blur(value, 5 * z) * (1 + 0.42 * fade * pleats + 0.30 * (1 - fade) * broad)
    tone = tone * (0.9 + 0.05 * noise(rng, value.shape, 9 * z, 3)) * smooth(below, 2.6, -0.6)
    colour = ramp(0.80 * tone, CLOTH)
    # Sleeves: folds ring the arm, brightest where they turn to the light.
    run = 0.75 * np.abs(rest[..., 0]) - 0.66 * rest[..., 1]
    run = run + 0.05 * noise(rng, value.shape, 60 * z, 4)
    ring = np.sin(17 * run) * 0.6 + 0.4 * np.sin(41 * run + 2 * rest[..., 2])
    arm = smooth(np.abs(rest[..., 0]) + 0.10 * (rest[..., 1] - 4.4), 1.60, 1.72)
    sleeve = blur(value, 3 * z) * (0.62 + 0.30 * ring) * smooth(below, 2.6, -0.6)
    lay(colour, ramp(0.85 * sleeve, SLEEVE), arm)
    border = smooth(below, 0.0, 0.015) * smooth(below, 0.12, 0.10)
    knot = 0.5 + 0.5 * np.sin(rest[..., 0] * 60) * np.sin(below * 110)
    gold = ramp(tone * (0.45 + 0.5 * knot), [(0, (22, 16, 8)), (0.5, (104, 80, 38)),
                                             (1, (190, 156, 84))])  # fmt: skip
    lay(colour, gold, 0.75 * border)
    lay(picture, colour, blur_within(cloth, (buffers.part == 0).astype(np.float32), 0.8 * z))
    # The dress lays a soft edge of shade on the skin above it.
    edge = smooth(below, -0.10, 0.0) * (1 - cloth) * (buffers.part == 0)
    picture *= (1 - 0.28 * edge)[..., None]


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
    gap |= ~solid & (rows[:, None] > 1088 * z)
    lay(picture, np.float32([11, 9, 6]) + 0 * picture, blur(gap.astype(np.float32), 2 * z))


def veil(picture: np.ndarray, buffers: Buffers) -> None:
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
    body = 0.5 * body + 0.5 * blur(body, 6 * z)
    lay(picture, np.float32([40, 32, 20]) + 0 * picture, 0.26 * body * (1 - face))
    line = np.zeros(buffers.part.shape, np.uint8)
    for points in sides:
        cv2.polylines(line, [np.round(points * 16).astype(np.int32)], False, 255, round(1.5 * z),
                      cv2.LINE_AA, 4)  # fmt: skip
    hem = 0.14 * blur(line.astype(np.float32) / 255, 0.8 * z)
    lay(picture, np.float32([88, 70, 44]) + 0 * picture, hem)
