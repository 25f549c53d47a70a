"""Openings of eyes that are drawn much larger than a face's, found by their colour.

Landmark networks learn from photos; in cartoons and some paintings an eye is larger or elsewhere
than they think. Where the eyeball clearly differs in colour from the skin its outline is found in
the picture, and the lids' landmarks, with what lies around them, move there. Elsewhere the
landmarks are the better guess and stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology
from sfumato.geometry.ramp import smoothstep
from sfumato.render.eyes import EYES
from sfumato.render.paint import Array, Image, luminance, spread

Mask = NDArray[np.bool_]
Circle = tuple[Array, float]  # centre (2,) and radius

_UNIT = 48  # pixels of the eye's width in the patch that is looked at
_PATCH = (112, 80)
_SHARE = 0.7  # so much that differs in colour, in areas of the landmarks' opening
_CLEAR = 1.6  # least step of evidence across both lids, 2 at most, and a bit for the inside
_GAIN = 0.6  # so much more than at the landmarks
_BOTH_SIDES = 0.12  # step to the sclera on both sides of an iris, of the picture's range
_REACH = 0.7  # eye widths over which the move of the lids dies out around them
_SHIFTS = np.linspace(-0.2, 0.2, 9)
_HEIGHTS = (0.8, 1.0, 1.25, 1.6, 2.0)
_MOVES = np.array(
    list(product(_SHIFTS[1:-1] * 1.07, _SHIFTS, (0.9, 1, 1.12, 1.25, 1.4), _HEIGHTS, _HEIGHTS)),
    np.float32,
)  # shift in eye widths (x, y), scale along, scale of the upper and of the lower lid


@dataclass(frozen=True)
class _Patch:
    """The eye in its own frame: corners level, ``_UNIT`` pixels apart.

    Attributes:
        matrix: (2, 3) picture to patch pixels.
        colour: (h, w, 3) float32.
        points: (478, 2) landmarks in patch pixels.
    """

    matrix: Array
    colour: Array
    points: Array


def fit_openings(image: Image, landmarks: Array) -> Array:
    """Landmarks (478, 3) with the lids and irises where the picture shows them.

    Args:
        image: (H, W, 3) RGB picture.
        landmarks: (478, 3) landmarks in its pixels.
    """
    result = landmarks.astype(np.float32)
    for upper, lower, iris in EYES:
        patch = _patch(image, landmarks, upper)
        disc, (centre, radius) = _iris(patch, iris)
        move = _opening(patch, upper, lower, disc)
        if move is None:
            continue
        moved = _moved(patch.points, upper, lower, move)
        rim = patch.points[iris : iris + 5] - patch.points[iris]
        own = float(np.mean(np.hypot(*rim[1:].T)))
        moved[iris : iris + 5] = centre + rim * (radius / max(own, 1e-3))
        near = np.ones(len(moved), bool)
        near[topology.N_FACE :] = False
        near[iris : iris + 5] = True
        back = cv2.invertAffineTransform(patch.matrix.astype(np.float64))
        result[near, :2] += ((moved - patch.points) @ back[:, :2].T)[near].astype(np.float32)
    return result


def _patch(image: Image, landmarks: Array, upper: tuple[int, ...]) -> _Patch:
    points = landmarks[:, :2]
    left, right = points[upper[0]], points[upper[-1]]
    width = max(float(np.hypot(*(right - left))), 1.0)
    axis, zoom = (right - left) / width, _UNIT / width
    turn = zoom * np.array([[axis[0], axis[1]], [-axis[1], axis[0]]])
    shift = np.array(_PATCH) / 2 - turn @ ((left + right) / 2)
    matrix = np.column_stack([turn, shift]).astype(np.float32)
    soft = image if zoom > 0.7 else cv2.GaussianBlur(image, (0, 0), 0.4 / zoom)
    colour = cv2.warpAffine(soft, matrix, _PATCH, borderMode=cv2.BORDER_REPLICATE)
    placed = points @ turn.T + shift
    return _Patch(matrix, colour.astype(np.float32), placed.astype(np.float32))


def _iris(patch: _Patch, iris: int) -> tuple[Circle, Circle]:
    """The surest dark disc near the landmarks' circle and the iris, patch pixels."""
    rim = patch.points[iris : iris + 5]
    start, radius = rim[0], float(np.mean(np.hypot(*(rim[1:] - rim[0]).T)))
    # The darkest channel tells an iris of any colour from a sclera, and hides the pupil's edge.
    light = np.asarray(cv2.GaussianBlur(patch.colour.min(axis=-1), (0, 0), 1.0), np.float32)
    side = np.linspace(-0.5, 0.8, 12)  # lids hide top and bottom
    angle = np.concatenate([side, np.pi - side])
    steps = np.linspace(-0.7, 0.7, 11) * radius
    dx, dy, grow = (
        v.reshape(-1, 1) for v in np.meshgrid(steps, steps, np.linspace(0.75, 1.75, 11))
    )

    def ring(scale: float) -> Array:
        x = start[0] + dx + grow * radius * scale * np.cos(angle)
        y = start[1] + dy + grow * radius * scale * np.sin(angle)
        return _at(light, x, y)

    # Medians: a catch-light is no edge of the iris.
    edge = (ring(1.12) - ring(0.88)) / max(float(np.ptp(light)), 1.0)
    sides = np.stack([np.median(half, axis=1) for half in (edge[:, :12], edge[:, 12:])])
    away = 0.12 * (dx**2 + dy**2)[:, 0] / radius**2
    grown = np.log(grow[:, 0])
    core = sides.min(axis=0) + 0.2 * sides.max(axis=0) - away - 0.3 * grown**2
    # A hard edge counts no more than a clear one, or the pupil's would win; of two good circles
    # the wider is the iris.
    clear = np.minimum(sides, 0.2)
    whole = clear.min(axis=0) + 0.2 * clear.max(axis=0) - away + 0.2 * grown
    whole[sides.min(axis=0) < _BOTH_SIDES] = -np.inf
    best = [int(np.argmax(core))]
    best.append(int(np.argmax(whole)) if np.isfinite(whole).any() else best[0])
    # Once it is clear which edge is meant, the hardest place is where it lies.
    apart = np.hypot(dx - dx[best[1]], dy - dy[best[1]])[:, 0] / radius
    close = (apart < 0.3) & (np.abs(grown - grown[best[1]]) < 0.2)
    best[1] = int(np.argmax(np.where(close, sides.min(axis=0) + 0.2 * sides.max(axis=0), -np.inf)))
    found = [(start + np.array([dx[k, 0], dy[k, 0]]), float(grow[k, 0]) * radius) for k in best]
    return found[0], found[1]


def _opening(
    patch: _Patch, upper: tuple[int, ...], lower: tuple[int, ...], circle: Circle
) -> Array | None:
    """The move (5,) of the lids to the eye's outline, None without clear evidence."""
    up, low = patch.points[list(upper)], patch.points[list(lower)]
    outline = np.concatenate([up, low[::-1]])
    inside = np.zeros(_PATCH[::-1], np.uint8)
    cv2.fillPoly(inside, [np.round(outline * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    size = 2 * int(0.3 * _UNIT) + 1
    near = cv2.dilate(inside, np.ones((size, size), np.uint8)) > 0
    x, y = np.meshgrid(np.arange(_PATCH[0]), np.arange(_PATCH[1]))
    disc = np.hypot(x - circle[0][0], y - circle[0][1]) < circle[1]
    cool, strange = _unlike_skin(patch.colour, outline.mean(axis=0), near)
    whole = _linked(cool | disc, inside > 0)
    if (whole & cool).sum() < _SHARE * inside.sum():
        return None
    # Colour alone misses a warm sclera, any difference takes lashes in: the clearer outline wins.
    found = [
        _fit(whole & (cool | disc), up, low),
        _fit(_linked(strange | cool | disc, disc), up, low),
    ]
    clear, gain, move = max(found, key=lambda fit: fit[0])
    return move if clear > _CLEAR and gain > _GAIN else None


def _unlike_skin(colour: Array, centre: Array, near: Mask) -> tuple[Mask, Mask]:
    """Pixels (h, w) cooler than the skin around, and bright pixels that differ in any way."""
    x, y = np.meshgrid(np.arange(_PATCH[0]), np.arange(_PATCH[1]))
    x, y = (x - centre[0]) / _UNIT, (y - centre[1]) / _UNIT
    far = ((x / 0.78) ** 2 + (y / 0.42) ** 2 > 1) & (y > -0.55)
    soft = np.asarray(cv2.GaussianBlur(colour, (0, 0), 0.9), np.float32)
    skin, away, usual = soft, np.zeros(far.shape, np.float32), 0.0
    known = far
    for _ in range(2):  # the second time without what does not look like skin
        skin = spread(soft, known.astype(np.float32) + np.float32(1e-3), float(_UNIT))
        away = np.abs(soft - skin).max(axis=-1)
        usual = float(np.median(away[far]))
        known = far & (away < 3 * usual + 12)
    light, usual_light = luminance(soft), luminance(skin)
    blue = soft[..., 2] / (soft.sum(axis=-1) + 20) - skin[..., 2] / (skin.sum(axis=-1) + 20)
    cool = (blue > 0.045) & (light > 0.25 * usual_light) & near
    bright = light > 0.55 * np.median(light[near])
    return cool, (away > 0.55 * max(40.0, 4 * usual)) & bright & near


def _linked(mask: Mask, core: Mask) -> Mask:
    """The parts of a mask that touch the core."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return np.asarray(mask & np.isin(parts, np.unique(parts[core & mask])))


def _fit(mask: Mask, up: Array, low: Array) -> tuple[float, float, Array]:
    """Step across the lids, gain over the landmarks and the best of all moves."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    table = np.asarray(cv2.GaussianBlur(closed.astype(np.float32), (0, 0), 0.8), np.float32)
    dx, dy, along, above, below = (_MOVES[:, k, None] for k in range(5))
    middle = (up[0] + up[-1]) / 2
    x, x_low = (middle[0] + dx * _UNIT + (p[1:-1, 0] - middle[0]) * along for p in (up, low))
    y = middle[1] + dy * _UNIT + (up[1:-1, 1] - middle[1]) * above
    y_low = middle[1] + dy * _UNIT + (low[1:-1, 1] - middle[1]) * below
    inner, outer = np.float32(0.06 * _UNIT), np.float32(0.08 * _UNIT)
    step = _at(table, x, y + inner) - _at(table, x, y - outer)
    step_low = _at(table, x_low, y_low - inner) - _at(table, x_low, y_low + outer)
    centre = np.broadcast_to(middle[1] + dy * _UNIT, dx.shape)
    ends = np.zeros(dx.shape, np.float32)
    for sign in (-1, 1):
        corner = middle[0] + dx * _UNIT + sign * along * np.float32(_UNIT / 2)
        ends += _at(table, corner - sign * 0.1 * _UNIT, centre)
        ends -= _at(table, corner + sign * 0.08 * _UNIT, centre)
    clear = step.mean(axis=1) + step_low.mean(axis=1) + 0.25 * ends[:, 0]
    total = clear + 0.5 * _at(table, x, (y + y_low) / 2).mean(axis=1) - _cost(_MOVES)
    best, own = int(np.argmax(total)), int(np.argmin(_cost(_MOVES)))
    return float(clear[best]), float(total[best] - total[own]), _MOVES[best]


def _cost(moves: Array) -> Array:
    """How unlikely the moves (n, 5) are."""
    logs = np.log(moves[:, 2:]) ** 2
    shift = 2.5 * (moves[:, :2] ** 2).sum(axis=1)
    return np.asarray(shift + logs @ np.array([0.6, 0.25, 0.25], np.float32))


def _moved(points: Array, upper: tuple[int, ...], lower: tuple[int, ...], move: Array) -> Array:
    """All landmarks (478, 2) after a move of one eye's lids, patch pixels."""
    left, right = points[upper[0]], points[upper[-1]]
    middle = (left + right) / 2
    off = points - middle
    scale = np.where(off[:, 1] < 0, move[3], move[4])
    full = move[:2] * _UNIT + np.stack([off[:, 0] * move[2], off[:, 1] * scale], axis=1)
    ring = points[[*upper, *lower[::-1]]].astype(np.float32)
    outside = np.array(
        [max(0.0, -cv2.pointPolygonTest(ring, (float(x), float(y)), True)) for x, y in points]
    )
    share = 1 - smoothstep(outside / (_REACH * _UNIT))
    return np.asarray(points + (full - off) * share[:, None], np.float32)


def _at(table: Array, x: Array, y: Array) -> Array:
    out = cv2.remap(
        table,
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(out, np.float32)
