"""Colours of a mouth's interior, mixed from the picture: lips, skin, whites of eyes, dark tones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from sfumato.geometry import topology
from sfumato.render.paint import Array, discs, lens, luminance, tone

_OUTER = (list(topology.OUTER_LIPS_UPPER), list(topology.OUTER_LIPS_LOWER))
_INNER = (list(topology.INNER_LIPS_UPPER), list(topology.INNER_LIPS_LOWER))
# MediaPipe face mesh numbers.
_EYES = (
    ([33, 160, 159, 158, 133], [33, 144, 145, 153, 133]),
    ([362, 385, 386, 387, 263], [362, 380, 374, 373, 263]),
)
_AROUND = [205, 425, 50, 280, 214, 434, 164]
_SIDES = ([216, 206], [436, 426])


@dataclass(frozen=True)
class Palette:
    """Colours (3,) in 0..255.

    Attributes:
        enamel: (2, 3) teeth in full light, at the left and the right side of the face.
        gum: gums.
        tongue: the tongue in full light.
        deep: walls of the mouth.
        dark: its depth.
        seam: the line between closed lips.
        tint: factor that shaded light takes on, about 1.
        grain: noise of the picture over its light.
    """

    enamel: Array
    gum: Array
    tongue: Array
    deep: Array
    dark: Array
    seam: Array
    tint: Array
    grain: float


def mix_palette(picture: Array, points: Array, mm: float) -> Palette:
    """Mix the colours of one portrait.

    Args:
        picture: (H, W, 3) float32 RGB.
        points: (478, 3) landmarks in its pixels.
        mm: pixels per millimetre of the head.
    """
    skin = discs(picture, points[_AROUND, :2], 3 * mm)
    lips = _lip_pixels(picture, points)
    lip, shade = tone(lips, 0.3, 0.8), tone(lips, 0.02, 0.25)
    bright = tone(skin, 0.6, 0.95)
    level = float(luminance(bright))
    eyes = np.concatenate([_inside(picture, points, *pair) for pair in _EYES])
    white = float(np.quantile(luminance(eyes), 0.93)) if len(eyes) > 8 else level
    target = float(np.clip(max(1.06 * level, 0.95 * white), 0, 240))
    # Ivory: the light of the skin, most of its colour taken out.
    enamel = np.float32(target) + (bright - level) * np.float32(0.72 * target / max(level, 1.0))
    sides = [float(luminance(discs(picture, points[s, :2], 2 * mm)).mean()) for s in _SIDES]
    tilt = np.clip(np.array(sides) / max(np.mean(sides), 1.0), 0.6, 1.25) ** 0.6
    face = luminance(discs(picture, points[:468:3, :2], mm))
    floor = float(np.quantile(face, 0.01))
    dark = _at_least(_deeper(shade, bright, 0.4) * np.float32(0.24), floor * 0.8)
    fine = luminance(picture) - cv2.GaussianBlur(luminance(picture), (0, 0), 1.2)
    grain = float(np.median(np.abs(discs(fine[..., None], points[_AROUND[:4], :2], 4 * mm)))) * 1.4
    return Palette(
        enamel=np.clip(enamel * tilt[:, None], 0, 245).astype(np.float32),
        gum=_deeper(0.75 * lip + 0.2 * bright, bright, 0.4),
        tongue=0.78 * _deeper(lip, bright, 0.5),
        deep=_at_least(_deeper(lip, bright, 0.5) * np.float32(0.36), floor),
        dark=dark,
        seam=_at_least(shade * np.float32(0.5), floor),
        tint=np.clip(lip / max(float(luminance(lip)), 1.0), 0.4, 1.6),
        grain=grain / max(target, 1.0),
    )


def with_own_enamel(colours: Palette, picture: Array, points: Array) -> Palette:
    """The palette with the colour of the teeth that the picture shows."""
    inside = _inside(picture, points, *_INNER)
    guess = colours.enamel.mean(axis=0)
    # On the way from the gums' colour to the guessed one: lips and tongue are near its start.
    way = guess - colours.gum
    place = (inside - colours.gum) @ way / max(float(way @ way), 1.0)
    found = inside[place > 0.6]
    if len(found) < 12:
        return colours
    scale = np.clip(tone(found, 0.5, 0.95) / np.maximum(guess, 1), 0.8, 1.25)
    return replace(colours, enamel=np.clip(colours.enamel * scale, 0, 250).astype(np.float32))


def _deeper(lip: Array, skin: Array, power: float) -> Array:
    """Further on the way from skin to lip: redder in colour, unchanged in grey, as light as lip."""
    ratio = np.clip(lip, 1, 255) / np.clip(skin, 1, 255)
    hue = np.clip(lip * (ratio / ratio.mean()) ** np.float32(power), 0, 255)
    return np.asarray(hue * (luminance(lip) / np.maximum(luminance(hue), 1)), np.float32)


def _at_least(colour: Array, level: float) -> Array:
    """A colour raised to a luminance: no tone darker than the picture's own blacks."""
    return np.asarray(colour + max(level - float(luminance(colour)), 0.0), np.float32)


def _lip_pixels(picture: Array, points: Array) -> Array:
    upper, lower = _OUTER
    outer = lens(points[upper, :2], points[lower, :2], picture.shape[:2])
    if outer is None:
        return picture.reshape(-1, 3)
    mask = np.zeros(picture.shape[:2], np.uint8)
    for (upper, lower), value in ((_OUTER, 1), (_INNER, 0)):
        ring = np.concatenate([points[upper, :2], points[lower[::-1], :2]])
        cv2.fillPoly(mask, [np.round(ring).astype(np.int32)], value)
    found = picture[mask > 0]
    return found if len(found) > 8 else discs(picture, points[[0, 17], :2], 1.0)


def _inside(picture: Array, points: Array, upper: list[int], lower: list[int]) -> Array:
    region = lens(points[upper, :2], points[lower, :2], picture.shape[:2])
    if region is None:
        return np.zeros((0, 3), np.float32)
    free = np.minimum(region.below, region.above) > 0.6
    return np.asarray(picture[region.rows, region.cols][free], np.float32)
