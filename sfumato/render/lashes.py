"""A portrait's own lashes, carried along by lids that close.

Lashes of an open eye stand up from the edge of the lid and are seen foreshortened; on a closed eye
they hang below the seam. So what is darker than skin along the edge is taken from the picture once,
in the lid's own coordinates (along the eye, away from the edge), and laid down again at the edge,
turned over as the eye closes. Their form along the eye stays the picture's: thin at the nose,
thick where somebody drew a line or a painter let them go.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sfumato.geometry.ramp import smoothstep, step
from sfumato.render.paint import Array, Coat, Lens, luminance, strip, tone

# All lengths in widths of the eye.
LONG = 0.14  # away from the edge of the lid, what is darker than skin is lashes
BEYOND = 0.12  # past the corners
_ACROSS, _ALONG = 16, 96  # samples of a strip
_EDGE = 5  # of these samples within which the edge of the lid may lie
_THIN = 0.085  # lashes thin out over that length: what stays dark farther out is a crease
_ENDS = 0.2  # and over that one to both ends of the eye
_LINE = (0.024, 0.042)  # the line that they grow from fades within that, above and below the seam
_SHADOW = (0.13, 0.32)  # of the closed lid's edge: how far it reaches, and how dark it is
_LEAST = 0.55  # of the line, where the picture shows none
_MOST = 0.85  # of it covers what is below
_FLAT = 0.6  # lashes that point at the viewer still have that much of their length
_TURNS = (0.2, 0.9)  # share of the opening that is closed while they turn over
_CONTRAST = 24.0  # levels between skin and lashes, below which they are taken for less dark


@dataclass(frozen=True)
class Lashes:
    """Lashes of one upper lid.

    Attributes:
        cover: (16, 96) float32 in 0..1, how much they hide; rows go from the edge away over
            ``LONG``, columns from left to right over the eye and ``BEYOND`` on both sides.
        colour: (3,) of them.
    """

    cover: Array
    colour: Array


def find_lashes(patch: Array, skin: Array, upper: Array, origin: Array) -> Lashes:
    """Take the lashes off a picture.

    Args:
        patch: (h, w, 3) the picture around an open eye.
        skin: (h, w, 3) what the lid would be without lashes.
        upper: (n, 2) points of the upper lid, left to right, picture pixels.
        origin: (2,) picture pixel of the patch's first pixel.
    """
    away, along = np.linspace(0, LONG, _ACROSS, dtype=np.float32), _places()
    place = strip(upper - origin, along, -away)
    seen, bare = _taken(patch, place), _taken(skin, place)
    light, ground = luminance(seen), luminance(bare)
    inner = np.abs(along - 0.5) < 0.5
    near = seen[:_EDGE, inner].reshape(-1, 3)
    colour = tone(near, 0.05, 0.4)
    depth = max(float(np.median(ground[:, inner]) - luminance(colour)), _CONTRAST)
    cover = smoothstep(((ground - light) / np.float32(depth) - np.float32(0.15)) / np.float32(0.7))
    # From the darkest place at the edge outwards it only grows less: a crease does not count.
    cover[:_EDGE] = cover[:_EDGE].max(axis=0)
    cover = np.minimum.accumulate(cover, axis=0) * np.exp(-((away / _THIN) ** 2))[:, None]
    cover = cv2.GaussianBlur(cover * _ends(), (0, 0), 4.0, sigmaY=1.2)
    return Lashes(np.asarray(cover, np.float32), colour)


def paint_lashes(lashes: Lashes, region: Lens, closed: float, shown: float) -> Coat:
    """Lashes at the edge of a lid.

    Args:
        region: around the eye as it is now.
        closed: share of the picture's opening that is closed, 0..1.
        shown: how much of the picture's own lashes is covered by skin, 0..1.
    """
    away = -region.below / np.float32(region.width)
    turn = 1 - 2 * step((closed - _TURNS[0]) / (_TURNS[1] - _TURNS[0]))
    length = max(abs(turn), _FLAT) * (1 if turn > 0 else -1)
    row = away / np.float32(length * LONG) * np.float32(_ACROSS - 1)
    column = (region.along + BEYOND) / np.float32(1 + 2 * BEYOND) * np.float32(_ALONG - 1)
    hang = cv2.remap(lashes.cover, column, row, cv2.INTER_LINEAR)
    # The line that they grow from is seen from both sides of the seam.
    line = np.maximum(lashes.cover[0], _LEAST * _ends())
    along = cv2.remap(line[None], column, np.zeros_like(column), cv2.INTER_LINEAR)
    reach = np.where(away > 0, np.float32(_LINE[0]), np.float32(_LINE[1]))
    line = along * np.exp(-np.square(away / reach))
    shadow = along * np.exp(-np.square(away / np.float32(_SHADOW[0])))
    cover = np.maximum(np.maximum(hang, line) * np.float32(_MOST), shadow * np.float32(_SHADOW[1]))
    return Coat(region, lashes.colour, np.asarray(cover * np.float32(shown), np.float32))


def _taken(picture: Array, place: Array) -> Array:
    floats = picture.astype(np.float32)
    out = cv2.remap(floats, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]  # stubs want a second map
    return np.asarray(out, np.float32)


def _places() -> Array:
    return np.linspace(-BEYOND, 1 + BEYOND, _ALONG, dtype=np.float32)


def _ends() -> Array:
    """How much there is along the eye: nothing past its corners."""
    along = _places()
    return smoothstep((np.minimum(along, 1 - along) + np.float32(BEYOND)) / np.float32(_ENDS))
