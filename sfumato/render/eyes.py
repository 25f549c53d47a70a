"""The two eyes: sclera, iris and catch-light as layers under moving lids.

Once per portrait the eye of the picture is taken apart: the sclera without the iris, the iris
completed where the lids hide it, the catch-light by itself. Each frame puts them together under
the target's lids. All colours come from the picture, so a painting stays a painting.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology
from sfumato.geometry.ramp import smoothstep, step
from sfumato.render.paint import (
    Array,
    Coat,
    Image,
    Lens,
    discs,
    gap,
    inverted,
    lens,
    luminance,
    plane,
    tone,
)
from sfumato.render.shut_eye import SHADOW, SHUT, make_up

# Lid contours from left to right in the image, number of the iris' centre (its rim follows).
EYES = (
    (topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER, 468),
    (topology.RIGHT_EYE_UPPER[::-1], topology.RIGHT_EYE_LOWER[::-1], 473),
)
_CHEEKS = ((50, 117, 118, 205), (280, 346, 347, 425))
_SHADOW_REACH = 0.10  # of the eye's width: how far the upper lid's shadow falls
_IRIS_EDGE = (1.03, 1.22)  # of the iris radius: the disc's rim fades out between these
_SLIT_SHADOW = 0.8  # of the light is lost under the lid of a nearly closed eye
_CHANGED = 0.02  # of the eye's width: a change of form that shows
_GLINT_FOLLOWS = 0.5  # a reflection on the cornea moves half as far as the iris


@dataclass(frozen=True)
class Eye:
    """One eye taken apart, in picture pixels.

    Attributes:
        upper: Landmark numbers of the upper lid, left to right.
        lower: Landmark numbers of the lower lid.
        iris_index: Landmark number of the iris centre.
        origin: (2,) picture pixel of the textures' first pixel.
        white: (h, w, 3) sclera without iris and without the upper lid's shadow.
        iris: (h, w, 4) completed iris, premultiplied by its coverage (last channel).
        glint: (h, w, 3) light that the catch-light adds.
        corners: (2, 2) left and right corner.
        centre: (2,) iris centre found in the picture.
        offset: (2,) that centre minus the landmark.
        outer: Distance of the outer eye corners in space, pixels.
        opening: Height of the opening over its width.
        form: (9,) openness along the lids and place of the iris in the picture.
        shadow: Strength of the upper lid's shadow, 0..1.
    """

    upper: tuple[int, ...]
    lower: tuple[int, ...]
    iris_index: int
    origin: Array
    white: Array
    iris: Array
    glint: Array
    corners: Array
    centre: Array
    offset: Array
    outer: float
    opening: float
    form: Array
    shadow: float


@dataclass(frozen=True)
class EyeLayer:
    """Both eyes of a portrait; an eye that cannot be seen (dark glasses) is left out."""

    eyes: tuple[Eye, ...]


def prepare_eyes(image: Image, landmarks: Array) -> EyeLayer:
    """Take the eyes of a portrait apart into the layers that :func:`paint_eyes` takes.

    Args:
        image: (H, W, 3) RGB picture, best at the resolution of the output.
        landmarks: (478, 3) landmarks in its pixels.
    """
    points = np.asarray(landmarks, np.float32)
    picture = image.astype(np.float32)
    found = (
        _take_apart(picture, points, *rim, cheek) for rim, cheek in zip(EYES, _CHEEKS, strict=True)
    )
    return EyeLayer(tuple(eye for eye in found if eye is not None))


def paint_eyes(layer: EyeLayer, landmarks: Array, shape: tuple[int, int]) -> list[Coat]:
    """The eyes between the target's lids, to be laid over the skin.

    Args:
        layer: The portrait's eyes.
        landmarks: (478, 3) target landmarks in frame pixels, irises placed by gaze.
        shape: Height and width of the frame.
    """
    points = np.asarray(landmarks, np.float32)
    return [coat for eye in layer.eyes for coat in _paint(eye, points, shape)]


def _paint(eye: Eye, points: Array, shape: tuple[int, int]) -> list[Coat]:
    upper, lower = points[list(eye.upper), :2], points[list(eye.lower), :2]
    region = lens(upper, lower, shape, pad=4.0)
    if region is None:
        return []
    opening = gap(upper, lower)
    alpha = region.mask(max(1.0, 0.035 * region.width))
    # An eye that looks as in the picture shows the picture; a turned iris counts in full.
    change = (_form(points, eye.upper, eye.lower, eye.iris_index) - eye.form) / _CHANGED
    alpha = alpha * np.float32(1 - np.exp(-np.mean(change[:-2] ** 2) - np.sum(change[-2:] ** 2)))
    if alpha.max() <= 0.004:
        return []
    # Nothing shines in the slit of a nearly closed eye.
    slit = step(1.5 - 2.5 * opening / region.width / max(eye.opening, 0.12))
    shadow = eye.shadow + (_SLIT_SHADOW - eye.shadow) * slit
    return [Coat(region, _look(eye, region, points, _to_picture(eye, points), shadow), alpha)]


def _look(eye: Eye, region: Lens, points: Array, linear: Array, shadow: float) -> Array:
    """Colours (h, w, 3) of the open eye over the region."""
    middle = points[[eye.upper[0], eye.upper[-1]], :2].mean(axis=0)
    home_middle = eye.corners.mean(axis=0)
    back = inverted(linear)
    centre = points[eye.iris_index, :2] + back @ eye.offset
    home = middle + back @ (eye.centre - home_middle)
    light = home + np.float32(_GLINT_FOLLOWS) * (centre - home)
    colour = _sample(eye.white, eye, region, linear, middle, home_middle)
    iris = _sample(eye.iris, eye, region, linear, centre, eye.centre)
    colour = colour * (1 - iris[..., 3:]) + iris[..., :3]
    glint = _sample(eye.glint, eye, region, linear, light, eye.centre)
    # The glint has the picture's shadow in it already.
    shade = _shade(region, shadow)[..., None]
    return np.asarray(colour * shade + glint * (shade / _shade(region, eye.shadow)[..., None]))


def _form(points: Array, upper: tuple[int, ...], lower: tuple[int, ...], iris: int) -> Array:
    """Openness along the lids and place of the iris, (9,) over the eye's width."""
    left, right = points[upper[0], :2], points[upper[-1], :2]
    width = max(float(np.hypot(*(right - left))), 1e-3)
    openness = np.hypot(*(points[list(lower), :2] - points[list(upper), :2])[1:-1].T)
    place = points[iris, :2] - 0.5 * (left + right)
    return np.concatenate([openness, place]) / np.float32(width)


def _to_picture(eye: Eye, points: Array) -> Array:
    """Linear part (2, 2) of the way from frame pixels to picture pixels.

    Along the eye the corners tell the scale (they foreshorten with yaw); across it the distance
    of the outer corners in space does, which does not change when the head turns.
    """
    here = points[eye.upper[-1], :2] - points[eye.upper[0], :2]
    there = eye.corners[1] - eye.corners[0]
    length, own = float(np.hypot(*here)), float(np.hypot(*there))
    outer = float(np.linalg.norm(points[263] - points[33]))
    a, b = here / length, there / own
    across, across_own = np.array([-a[1], a[0]]), np.array([-b[1], b[0]])
    stretch = np.clip(own / length * outer / eye.outer, 0.5, 2.0) * eye.outer / outer
    linear = np.outer(b, a) * stretch + np.outer(across_own, across) * (eye.outer / outer)
    return np.asarray(linear, np.float32)


def _sample(
    texture: Array, eye: Eye, region: Lens, linear: Array, here: Array, there: Array
) -> Array:
    """A texture over the region so that frame point ``here`` shows picture point ``there``."""
    first = np.array([region.x[0, 0], region.y[0, 0]], np.float32)
    shift = there - eye.origin + linear @ (first - here)
    matrix = np.column_stack([linear, shift])
    size = (region.x.shape[1], region.y.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(texture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)


def _shade(region: Lens, strength: float) -> Array:
    """Light (h, w) that the upper lid's shadow leaves on the eyeball."""
    reach = np.float32(_SHADOW_REACH * region.width)
    return 1 - np.float32(strength) * np.exp(-np.maximum(region.below, 0) / reach)


def _take_apart(
    picture: Array,
    points: Array,
    upper: tuple[int, ...],
    lower: tuple[int, ...],
    iris: int,
    cheek: tuple[int, ...],
) -> Eye | None:
    up, low = points[list(upper), :2], points[list(lower), :2]
    width = float(np.hypot(*(up[-1] - up[0])))
    region = lens(up, low, picture.shape[:2], pad=0.3 * width, crop=False)
    if region is None:
        return None
    patch = _crop(picture, region)
    skin = discs(picture, points[list(cheek), :2], 0.1 * width)
    inside = patch[np.minimum(region.below, region.above) > 0.6]
    opening = gap(up, low) / width
    if opening < SHUT:
        white, disc, glint, centre = make_up(region, up[[0, -1]], skin.mean(axis=0))
        shadow = SHADOW
    elif _hidden(inside, float(luminance(skin).mean())):
        return None
    else:
        centre, radius = _find_iris(patch, region, points[iris : iris + 5, :2], width)
        distance = np.hypot(region.x - centre[0], region.y - centre[1]) / np.float32(radius)
        shadow = _shadow(patch, region, distance)
        lit = patch / _shade(region, shadow)[..., None]
        white = _white(lit, region, distance, inside)
        disc, glint = _disc(lit, region, distance, white)
    return Eye(
        upper=upper,
        lower=lower,
        iris_index=iris,
        origin=np.array([region.x[0, 0], region.y[0, 0]], np.float32),
        white=white,
        iris=disc,
        glint=glint * _shade(region, shadow)[..., None],
        corners=up[[0, -1]],
        centre=centre,
        offset=centre - points[iris, :2],
        outer=float(np.linalg.norm(points[263] - points[33])),
        opening=opening,
        form=_form(points, upper, lower, iris),
        shadow=shadow,
    )


def _crop(picture: Array, region: Lens) -> Array:
    matrix = np.array([[1, 0, region.x[0, 0]], [0, 1, region.y[0, 0]]], np.float32)
    size = (region.x.shape[1], region.y.shape[0])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)


def _hidden(inside: Array, skin: float) -> bool:
    """Dark glasses: nothing bright, and little to tell apart, where the eye should be."""
    if len(inside) < 8:
        return False
    low, high = np.quantile(luminance(inside), [0.05, 0.95])
    return bool(high < 0.42 * skin and high - low < 0.22 * skin)


def _find_iris(patch: Array, region: Lens, rim: Array, width: float) -> tuple[Array, float]:
    """Centre and radius of the iris: the landmark's circle, moved to the strongest dark disc edge.

    The landmark network drifts on paintings; the circle with the largest step from dark inside to
    bright outside (Daugman's operator) within a small search settles it.
    """
    start = rim[0]
    radius = float(np.mean(np.hypot(*(rim[1:] - start).T)))
    radius = float(np.clip(radius, 0.15 * width, 0.3 * width))
    light = np.asarray(
        cv2.GaussianBlur(patch.min(axis=-1), (0, 0), max(0.5, 0.02 * width)), np.float32
    )
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    # The sides of the rim tell most: lids cover the top and often the bottom.
    side = np.cos(angle) ** 2 + 0.15
    steps = np.linspace(-0.4, 0.4, 9) * radius
    dx, dy, grow = np.meshgrid(steps, steps, np.linspace(0.8, 1.3, 6), indexing="ij")
    origin = np.array([region.x[0, 0], region.y[0, 0]])
    x = (start[0] - origin[0] + dx).reshape(-1, 1)
    y = (start[1] - origin[1] + dy).reshape(-1, 1)
    r = (grow * radius).reshape(-1, 1)

    def ring(table: Array, scale: float) -> NDArray[np.float32]:
        u = (x + r * scale * np.cos(angle)).astype(np.float32)
        v = (y + r * scale * np.sin(angle)).astype(np.float32)
        out = cv2.remap(table, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(out, np.float32)

    visible = ring(np.minimum(region.below, region.above), 1.0) > 0.03 * width
    contrast = max(float(light.max() - light.min()), 1.0)
    # A hard edge counts no more than a clear one, or the pupil's would win.
    edge = np.minimum(ring(light, 1.18) - ring(light, 0.85), np.float32(0.25 * contrast))
    # Both sides must agree: one alone finds the eye's corner or a shadow.
    weak = []
    for half in (np.cos(angle) > 0.1, np.cos(angle) < -0.1):
        weight = visible[:, half] * side[half]
        weak.append((edge[:, half] * weight).sum(axis=1) / (weight.sum(axis=1) + 1.5))
    score = np.minimum(*weak) + 0.2 * np.maximum(*weak)
    moved = (dx**2 + dy**2).ravel() / radius**2 + 0.2 * (grow.ravel() - 1.0) ** 2
    best = int(np.argmax(score / contrast - 0.4 * moved))
    found = start + np.array([dx.ravel()[best], dy.ravel()[best]])
    return np.asarray(found, np.float32), float(r[best, 0])


def _shadow(patch: Array, region: Lens, distance: Array) -> float:
    """How much darker the sclera is under the upper lid than below, 0.15..0.55."""
    light = luminance(patch)
    free = (distance > 1.25) & (region.above > 1.0) & (np.abs(region.along - 0.5) < 0.35)
    unit = 0.06 * region.width
    top = light[free & (region.below > 0.4 * unit) & (region.below < 1.2 * unit)]
    rest = light[free & (region.below > 2.2 * unit)]
    if len(top) < 4 or len(rest) < 4:
        return 0.3
    lost = 1 - float(np.median(top)) / max(float(np.median(rest)), 1.0)
    return float(np.clip(1.6 * lost, 0.15, 0.55))


def _white(lit: Array, region: Lens, distance: Array, inside: Array) -> Array:
    """The sclera over the whole patch, continued under iris and lids (h, w, 3)."""
    inner = np.minimum(region.below / 1.6, region.above) / np.float32(max(0.8, 0.03 * region.width))
    known = smoothstep(inner - np.float32(0.6)) * smoothstep((distance - 1.1) * np.float32(8))
    light = luminance(lit)
    seen = known > 0.5
    if seen.sum() < 8:
        bright = tone(inside if len(inside) else lit.reshape(-1, 3), 0.85, 1.0)
        return np.broadcast_to(bright, lit.shape).astype(np.float32).copy()
    bright_level = np.quantile(light[seen], 0.9)
    known = known * smoothstep((light / bright_level - np.float32(0.12)) * np.float32(8))
    smooth = plane(lit, known + np.float32(1e-6), region)
    # What the plane misses spreads from the known pixels to the unknown ones, coarse to fine.
    rest = (lit - smooth) * known[..., None]
    spread = np.zeros_like(lit)
    for sigma in (0.18, 0.09, 0.045):
        size = sigma * region.width
        share = cv2.GaussianBlur(known, (0, 0), size)[..., None]
        total = cv2.GaussianBlur(rest, (0, 0), size)
        trust = share / (share + np.float32(0.08))
        spread = spread * (1 - trust) + total / (share + np.float32(1e-4)) * trust
    return np.asarray(
        np.clip(lit * known[..., None] + (smooth + spread) * (1 - known[..., None]), 0, 255),
        np.float32,
    )


def _disc(lit: Array, region: Lens, distance: Array, white: Array) -> tuple[Array, Array]:
    """Iris with coverage (h, w, 4), completed by radial symmetry, and its catch-light (h, w, 3)."""
    band = np.float32(max(0.8, 0.03 * region.width))
    seen = smoothstep(np.minimum(region.below / 1.5, region.above) / band - np.float32(0.5))
    rings = np.linspace(0, 1.25, 14)
    colours = np.zeros((len(rings), 3))
    found = np.zeros(len(rings), bool)
    for k, ring in enumerate(rings):
        near = (np.abs(distance - ring) < 0.09) & (seen > 0.6)
        if near.sum() >= 3:
            colours[k], found[k] = np.median(lit[near], axis=0), True
    if not found[:9].any():
        empty = np.zeros((*lit.shape[:2], 4), np.float32)
        return empty, np.zeros_like(lit)
    radial = np.stack(
        [np.interp(distance, rings[found], colours[found, c]) for c in range(3)], axis=-1
    ).astype(np.float32)
    glint = _glint(lit, radial, distance, seen, white)
    clean = (lit - glint) * seen[..., None] + radial * (1 - seen[..., None])
    low, high = _IRIS_EDGE
    cover = 1 - smoothstep((distance - np.float32(low)) / np.float32(high - low))
    core = (distance < 0.7) & (seen > 0.6)
    ground = luminance(white)[core].mean() if core.any() else luminance(white).mean()
    # A statue has no iris to move.
    dark = luminance(radial)[distance < 0.8].mean() / max(float(ground), 1.0)
    cover = (cover * np.float32(step((0.95 - dark) * 12)))[..., None]
    return np.concatenate([clean * cover, cover], axis=-1), glint * (cover > 0)


def _glint(lit: Array, radial: Array, distance: Array, seen: Array, white: Array) -> Array:
    """Catch-light: what is clearly brighter than the iris around it, (h, w, 3)."""
    over = luminance(lit) - luminance(radial)
    scale = max(float(np.median(luminance(white)) - luminance(radial)[distance < 0.8].mean()), 20.0)
    soft = smoothstep((over / np.float32(scale) - np.float32(0.2)) * np.float32(5))
    soft = soft * seen * smoothstep((np.float32(1.0) - distance) * np.float32(6))
    return np.asarray(np.maximum(lit - radial, 0) * soft[..., None], np.float32)
