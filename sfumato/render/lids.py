"""Lid skin for closing eyes.

A lid that comes down shows skin which the picture does not have: what lies at the open eye's edge
are lashes, shadow and, where the landmarks miss the true edge, eyeball. Stretched by the warp they
turn to streaks. So the eye's surroundings are filled with skin once per portrait, and the filling
takes the place of the picture's own pixels as far as an eye is closed. An eye as open as in the
picture is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry.ramp import smoothstep, step
from sfumato.render.eyes import EYES, Eye, EyeLayer
from sfumato.render.lashes import LONG, Lashes, find_lashes, paint_lashes
from sfumato.render.paint import Array, Coat, Image, Lens, gap, lens, luminance, spread

_BROWS = ((53, 52, 65), (283, 282, 295))  # lower edge, middle; MediaPipe face mesh numbering
# All lengths in widths of the eye.
_REACH = 0.62  # the patch around the opening
_SURE = (0.13, 0.09)  # above and below the opening: lashes and rims, always filled
_MOST = (0.34, 0.24)  # no farther than that, whatever the picture shows
_LIFT = 1.2  # most gain
_TURN = 0.24  # above turns to below over that
_SOCKET = 0.2  # weight of the skin above the lid in what fills it
_TO_BROW = 0.6  # of the way from the lid to the brow
_SOFT = 0.04  # spread of the filling's edge
_STARTS, _COMPLETE = 0.15, 0.42  # share of the opening that is closed when the filling sets in


@dataclass(frozen=True)
class Lid:
    """Skin in place of one open eye.

    Attributes:
        eye: The eye it closes.
        origin: (2,) texture pixel of the patch's first pixel.
        skin: (h, w, 4) uint8 filled skin, premultiplied by its coverage (last channel).
        lashes: of the upper lid.
    """

    eye: Eye
    origin: Array
    skin: Image
    lashes: Lashes


def prepare_lids(
    texture: Image, matte: Image, landmarks: Array, layer: EyeLayer
) -> tuple[Lid, ...]:
    """Fill the surroundings of every eye with skin.

    Args:
        texture: (R, R, 3) RGB picture that the warp takes its pixels from.
        matte: (R, R) uint8 of the person: behind the far eye of a turned head the ground is near.
        landmarks: (478, 2) landmarks in its pixels.
        layer: The eyes, as :func:`sfumato.render.eyes.prepare_eyes` found them.
    """
    points = np.asarray(landmarks, np.float32)
    found = (_prepare(texture, matte, points, eye) for eye in layer.eyes)
    return tuple(lid for lid in found if lid is not None)


def draw_lids(image: Image, lids: tuple[Lid, ...], landmarks: Array, lookup: Array) -> None:
    """Lay lid skin over the warped skin as far as the eyes are closed.

    Args:
        image: (H, W, 3) RGB frame with the skin in place; changed in place.
        lids: The portrait's lids.
        landmarks: (478, 3) target landmarks in frame pixels.
        lookup: (H, W, 2) float32, texture pixel that each frame pixel shows.
    """
    points = np.asarray(landmarks, np.float32)[:, :2]
    for lid in lids:
        closed = _covered(_closed(lid.eye, points))
        if closed <= 0:
            continue
        upper, lower = points[list(lid.eye.upper)], points[list(lid.eye.lower)]
        around = np.concatenate([upper, lower])
        pad = 0.45 * float(np.hypot(*(upper[-1] - upper[0])))
        x0, y0 = np.maximum(np.floor(around.min(axis=0) - pad).astype(int), 0)
        x1, y1 = np.maximum(np.ceil(around.max(axis=0) + pad).astype(int) + 1, 0)
        place = lookup[y0:y1, x0:x1] - lid.origin
        if place.size == 0:
            continue
        skin = cv2.remap(lid.skin, place, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        patch = image[y0:y1, x0:x1]
        keep = 1 - skin[..., 3:] * np.float32(closed / 255)
        patch[:] = patch * keep + (skin[..., :3] * np.float32(closed) + np.float32(0.5))


def paint_lids(lids: tuple[Lid, ...], landmarks: Array, shape: tuple[int, int]) -> list[Coat]:
    """Lashes of closing eyes, to be laid over skin and eyes of a picture of this height and width.

    Args:
        lids: The portrait's lids.
        landmarks: (478, 3) target landmarks in frame pixels.
        shape: of the frame.
    """
    points = np.asarray(landmarks, np.float32)[:, :2]
    coats = []
    for lid in lids:
        closed = _closed(lid.eye, points)
        if (covered := _covered(closed)) <= 0:
            continue
        upper, lower = points[list(lid.eye.upper)], points[list(lid.eye.lower)]
        pad = 1.2 * LONG * float(np.hypot(*(upper[-1] - upper[0]))) + 1
        region = lens(upper, lower, shape, pad=pad)
        if region is not None:
            coats.append(paint_lashes(lid.lashes, region, closed, covered))
    return coats


def _closed(eye: Eye, points: Array) -> float:
    """Share of the picture's own opening that is closed; below 0 where it is wider open."""
    upper, lower = points[list(eye.upper)], points[list(eye.lower)]
    width = max(float(np.hypot(*(upper[-1] - upper[0]))), 1e-3)
    return 1 - gap(upper, lower) / width / max(eye.opening, 0.1)


def _covered(closed: float) -> float:
    """How far the lids show their filling, 0..1."""
    return step((closed - _STARTS) / (_COMPLETE - _STARTS))


def _prepare(texture: Image, matte: Image, points: Array, eye: Eye) -> Lid | None:
    upper, lower = points[list(eye.upper)], points[list(eye.lower)]
    width = float(np.hypot(*(upper[-1] - upper[0])))
    region = lens(upper, lower, texture.shape[:2], pad=_REACH * width, crop=False)
    if region is None:
        return None
    patch = _cut(texture, region, 0.0)
    most = min(_MOST[0], max(0.05, _TO_BROW * _to_brow(points, eye) / width))
    away, over = _outside(region, upper, lower)
    reach = width * (_MOST[1] + (most - _MOST[1]) * over)
    sure = away < width * (_SURE[1] + (min(_SURE[0], most) - _SURE[1]) * over)
    iris = points[eye.iris_index : eye.iris_index + 5]
    radius = float(np.mean(np.hypot(*(iris[1:] - iris[0]).T)))
    sure |= np.hypot(region.x - iris[0, 0], region.y - iris[0, 1]) < 1.1 * radius + 0.03 * width
    hole = _hole(patch, sure, away < reach, width)
    person = _cut(matte, region, 0.0) / np.float32(255)
    skin = _filled(patch, hole, person * (1 - over * np.float32(1 - _SOCKET)), width)
    skin *= _lift(patch, skin, hole > 0, (away < 1.5 * reach) & (np.abs(region.along - 0.5) < 0.3))
    origin = np.array([region.x[0, 0], region.y[0, 0]], np.float32)
    lashes = find_lashes(skin + (patch - skin) * person[..., None], skin, upper, origin)
    # Grain and brush strokes come from the cheek.
    cheek = _cut(texture, region, 0.75 * width)
    fine = cheek - cv2.GaussianBlur(cheek, (0, 0), 0.05 * width)
    usual = 3 * float(np.median(np.abs(fine))) + 1
    skin = np.clip(skin + np.clip(fine, -usual, usual), 0, 255)
    cover = smoothstep(cv2.GaussianBlur(hole, (0, 0), _SOFT * width) * np.float32(1.6))
    # Upwards the filling fades into the crease, whose edge would look cut out.
    fade = smoothstep((away / reach - np.float32(0.35)) / np.float32(0.65))
    cover = (cover * (1 - over * fade) * person)[..., None]
    rgba = np.concatenate([skin * cover, 255 * cover], axis=-1) + np.float32(0.5)
    return Lid(eye, origin, rgba.astype(np.uint8), lashes)


def _cut(texture: Image, region: Lens, down: float) -> Array:
    matrix = np.array([[1, 0, region.x[0, 0]], [0, 1, region.y[0, 0] + down]], np.float32)
    size = (region.x.shape[1], region.y.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(texture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)


def _to_brow(points: Array, eye: Eye) -> float:
    """From the middle of the upper lid to the lower edge of the brow, texture pixels."""
    brow = points[list(_BROWS[int(eye.iris_index == EYES[1][2])])].mean(axis=0)
    return float(np.hypot(*(points[eye.upper[4]] - brow)))


def _outside(region: Lens, upper: Array, lower: Array) -> tuple[Array, Array]:
    """Distance (h, w) from the opening in pixels, and whether it lies above, 0..1."""
    corner = np.array([region.x[0, 0], region.y[0, 0]], np.float32)
    ring = np.concatenate([upper, lower[::-1]]) - corner
    outside = np.ones((region.y.size, region.x.size), np.uint8)
    cv2.fillPoly(outside, [np.round(16 * ring).astype(np.int32)], (0,), shift=4)
    away = np.asarray(
        cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32
    )
    axis, middle = (upper[-1] - upper[0]) / np.float32(region.width), ring.mean(axis=0) + corner
    down = (region.y - middle[1]) * axis[0] - (region.x - middle[0]) * axis[1]
    return away, smoothstep(np.float32(0.5) - down / np.float32(_TURN * region.width))


def _hole(patch: Array, sure: NDArray[np.bool_], most: NDArray[np.bool_], width: float) -> Array:
    """What is not lid skin (h, w), 0 or 1: the opening with its lashes, as far as it reaches."""
    odd = (_strange(patch, ~most, width) & most) | sure
    count, parts = cv2.connectedComponents(odd.astype(np.uint8), connectivity=4)
    linked = np.isin(parts, np.unique(parts[sure])) & odd if count > 1 else odd
    size = 2 * max(1, round(0.04 * width)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(linked.astype(np.float32), kernel), np.float32)


def _strange(patch: Array, skin: NDArray[np.bool_], width: float) -> NDArray[np.bool_]:
    """Pixels (h, w) that do not look like the smooth skin around the eye."""
    soft = np.asarray(cv2.GaussianBlur(patch, (0, 0), 0.02 * width), np.float32)
    weight = skin.astype(np.float32)
    around = spread(soft, weight, width)
    away = np.abs(soft - around).max(axis=-1)
    usual = float(np.median(away[skin])) if skin.any() else 10.0
    return np.asarray(away > max(22.0, 3.0 * usual), bool)


def _lift(
    patch: Array, skin: Array, hole: NDArray[np.bool_], middle: NDArray[np.bool_]
) -> np.float32:
    """Gain for a filling that shade at the nose and hair at the temple made too dark.

    A lid bulges: its middle is about as bright as the skin right above and below the eye.
    """
    around, filled = luminance(patch[middle & ~hole]), luminance(skin[middle & hole])
    if not len(around) or not len(filled):
        return np.float32(1)
    return np.float32(np.clip(around.mean() / max(float(filled.mean()), 1.0), 1.0, _LIFT))


def _filled(patch: Array, hole: Array, counts: Array, width: float) -> Array:
    """Skin (h, w, 3) continued into the hole; dark hair does not count as skin.

    A closed lid catches the light like the skin below the eye: the shade of the socket above it
    ``counts`` (h, w) little, what lies behind the person not at all.
    """
    free = (1 - hole) * counts
    light = luminance(patch)
    level = spread(light[..., None], free, width)[..., 0]
    bright = smoothstep((light / np.maximum(level, 1.0) - np.float32(0.7)) * np.float32(5))
    return spread(patch, free * (bright + np.float32(0.02)), width)
