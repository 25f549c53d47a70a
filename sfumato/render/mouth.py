"""The mouth's interior: cavity, tongue and two rows of teeth behind moving lips.

The upper teeth sit on the skull, the lower teeth and the tongue on the jaw; lips slide over them.
Both are found from the target landmarks by linear fits, so everything moves continuously. All
colours are mixed from the picture's own (lips, skin, whites of the eyes, darkest tones): a
black-and-white print stays black and white, a varnished painting stays warm.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from sfumato.geometry import topology
from sfumato.geometry.ramp import smoothstep, step
from sfumato.render import teeth
from sfumato.render.paint import Array, Coat, Image, Lens, discs, inverted, lens, lookup, luminance
from sfumato.render.palette import Palette, mix_palette, with_own_enamel

_UPPER, _LOWER = list(topology.INNER_LIPS_UPPER), list(topology.INNER_LIPS_LOWER)
# MediaPipe face mesh numbers.
_SKULL = [10, 151, 9, 8, 168, 6, 197, 195, 5, 33, 133, 362, 263, 127, 356, 234, 454, 21, 251,
          54, 284, 103, 332]  # fmt: skip
# Skin slides over the chin: the lower lip tells as much about the jaw.
_JAW = [152, 175, 199, 200, 148, 377, 14, 17, 87, 317, 84, 314]
_SHOWN = (1.6, 9.0)  # mm of the upper front teeth that an open mouth shows, least and most
_TABLE_STEP = 0.25  # mm


@dataclass(frozen=True)
class MouthLayer:
    """What the mouth of one portrait is painted from; picture pixels and millimetres of its head.

    Attributes:
        solve: (3, n) pseudo-inverse of the skull points, centred.
        skull: (3,) their centroid.
        jaw: (3,) centroid of the jaw points.
        axes: (3, 3) columns: head's right, down and back, one millimetre long, in pixels.
        upper_edge: (3,) midpoint of the upper cutting edges.
        lower_edge: (3,) midpoint of the lower cutting edges.
        arch: (3, n) arc length, sideways position and depth along the dental arch.
        upper: (h, w, 4) upper row, premultiplied by its coverage (last channel).
        lower: (h, w, 4) lower row.
        per_mm: Texture pixels per millimetre.
        dark: (3,) colour of the depth of the mouth.
        deep: (3,) colour of its walls.
        tongue: (3,) colour of the tongue in full light.
        seam: (3,) colour of the line between closed lips.
        tint: (3,) colour that shaded light takes on, about 1.
        enamel: (3,) colour of the teeth in full light, 0..255.
        shape: (10,) opening of the picture's mouth along the lips and its width, mm.
    """

    solve: Array
    skull: Array
    jaw: Array
    axes: Array
    upper_edge: Array
    lower_edge: Array
    arch: Array
    upper: Array
    lower: Array
    per_mm: float
    dark: Array
    deep: Array
    tongue: Array
    seam: Array
    tint: Array
    enamel: Array
    shape: Array


@dataclass(frozen=True)
class _Jaws:
    """Where skull and jaw of the target are: pixels -> millimetres around the cutting edges."""

    inverse: Array  # (2, 2) pixels to millimetres sideways and down
    back: Array  # (2,) how a millimetre of depth shows, mm
    upper: Array  # (2,) upper edge, pixels
    lower: Array  # (2,) lower edge, pixels
    mm: float  # pixels


def prepare_mouth(image: Image, landmarks: Array) -> MouthLayer:
    """Build the interior of a portrait's mouth.

    Args:
        image: (H, W, 3) RGB picture, best at the resolution of the output.
        landmarks: (478, 3) landmarks in its pixels.

    Returns:
        The layer that :func:`paint_mouth` takes.
    """
    points = np.asarray(landmarks, np.float32)
    picture = image.astype(np.float32)
    axes = _head_axes(points)
    mm = float(np.linalg.norm(axes[:, 0]))
    skull = points[_SKULL]
    colours = mix_palette(picture, points, mm)
    seen = _seen_teeth(picture, points, axes, colours)
    if seen > 0:
        colours = with_own_enamel(colours, picture, points)
    upper_edge, lower_edge = _edges(points, axes, seen)
    per_mm = float(np.clip(1.5 * mm, 1.5, 5.0))
    # The same photo has the same teeth, another one others.
    rng = np.random.default_rng(zlib.crc32(points.tobytes()))
    upper, lower = (_row(side, per_mm, colours, rng) for side in (True, False))
    return MouthLayer(
        solve=np.linalg.pinv(skull - skull.mean(axis=0)),
        skull=skull.mean(axis=0),
        jaw=points[_JAW].mean(axis=0),
        axes=axes,
        upper_edge=upper_edge,
        lower_edge=lower_edge,
        arch=np.stack(teeth.arch()),
        upper=upper,
        lower=lower,
        per_mm=per_mm,
        dark=colours.dark,
        deep=colours.deep,
        tongue=colours.tongue,
        seam=colours.seam,
        tint=colours.tint,
        enamel=colours.enamel.mean(axis=0),
        shape=_shape(points, mm),
    )


def paint_mouth(layer: MouthLayer, landmarks: Array, shape: tuple[int, int]) -> list[Coat]:
    """The mouth's interior between the target's lips, to be laid over the skin.

    Args:
        layer: The portrait's mouth.
        landmarks: (478, 3) target landmarks in frame pixels.
        shape: Height and width of the frame.
    """
    points = np.asarray(landmarks, np.float32)
    region = lens(points[_UPPER, :2], points[_LOWER, :2], shape)
    if region is None:
        return []
    jaws = _jaws(layer, points)
    alpha = region.mask(max(1.0, 1.1 * jaws.mm))
    # A mouth shaped as in the picture shows the picture itself.
    change = _shape(points, jaws.mm) - layer.shape
    alpha = alpha * np.float32(1 - np.exp(-float(np.mean(change**2))))
    coats = _seam(layer, region, jaws.mm)
    if alpha.max() > 0.004:
        coats.insert(0, Coat(region, _interior(layer, jaws, region), alpha))
    return coats


def _interior(layer: MouthLayer, jaws: _Jaws, region: Lens) -> Array:
    """Colours (h, w, 3) of what lies behind the lips."""
    below, above = region.below / np.float32(jaws.mm), region.above / np.float32(jaws.mm)
    height = np.maximum(below + above, 0)
    wall = smoothstep(1 - above / np.float32(14))[..., None]
    colour = layer.dark + (layer.deep - layer.dark) * (np.float32(0.8) * wall)
    x, y = _millimetres(jaws.inverse, region, jaws.lower)
    cover, light = _tongue(x, y, float(height.max()))
    colour = colour + (layer.tongue * light[..., None] - colour) * cover[..., None]
    lit = _light(region, below, above)[..., None]
    # Light that comes in past the lips takes on their colour, the more the less there is.
    lit = lit * (1 - (1 - lit) * (1 - layer.tint))
    arch = _arch(layer, jaws)
    low = _teeth(layer, arch, x, y, upper=False)
    colour = colour * (1 - low[..., 3:]) + low[..., :3] * lit
    x, y = _millimetres(jaws.inverse, region, jaws.upper)
    up = _teeth(layer, arch, x, y, upper=True)
    return np.asarray(colour * (1 - up[..., 3:]) + up[..., :3] * lit)


def _light(region: Lens, below: Array, above: Array) -> Array:
    """How much light reaches the teeth past the lips, (h, w)."""
    corner = smoothstep(np.minimum(region.along, 1 - region.along) * np.float32(3.2))
    height = np.maximum(below + above, 0)
    return np.asarray(
        (1 - np.float32(0.55) * np.exp(-np.maximum(below, 0) / np.float32(1.6)))
        * (1 - np.float32(0.3) * np.exp(-np.maximum(above, 0) / np.float32(1.1)))
        * (np.float32(0.35) + np.float32(0.65) * corner)
        * (np.float32(0.5) + np.float32(0.5) * smoothstep(height / np.float32(5)))
    )


def _tongue(x: Array, y: Array, height: float) -> tuple[Array, Array]:
    """Coverage and light (h, w) of the tongue, lying behind the lower teeth; mm of the jaw."""
    rise = 7.0 + 0.12 * height
    top = -rise * np.sqrt(np.maximum(1 - (x / np.float32(21)) ** 2, 0)) + np.float32(2.0)
    inside = (y - top) / np.float32(3.0)
    cover = smoothstep(inside) * np.float32(step((height - 4) / 8))
    light = np.float32(0.42) + np.float32(0.5) * smoothstep((y - top) / np.float32(rise + 2))
    light = light * (1 - np.float32(0.35) * (x / np.float32(21)) ** 2)
    groove = np.float32(0.12) * np.exp(-((x / np.float32(1.6)) ** 2))
    return cover, light * (1 - groove)


def _arch(layer: MouthLayer, jaws: _Jaws) -> tuple[float, Array]:
    """Sideways places from the first on, every ``_TABLE_STEP``: which tooth is seen there.

    Returns:
        The first place in mm, and (n, 4): arc length from the left end, lift and coverage; four
        as OpenCV looks up four faster than three.
    """
    arc, sideways, depth = layer.arch
    # Seen from the side the arch shifts with its depth; the far end hides behind itself.
    shown = np.maximum.accumulate(sideways + jaws.back[0] * depth)
    shown = shown + np.arange(len(arc), dtype=np.float32) * np.float32(1e-3)
    places = np.arange(shown[0], shown[-1], _TABLE_STEP, dtype=np.float32)
    along = np.interp(places, shown, arc)
    lift = jaws.back[1] * np.interp(along, arc, depth)
    ends = smoothstep(np.minimum(places - shown[0], shown[-1] - places) / np.float32(7))
    table = np.stack([along + teeth.HALF_ARC, lift, ends, ends], axis=-1)
    return float(shown[0]), table.astype(np.float32)


def _teeth(layer: MouthLayer, arch: tuple[float, Array], x: Array, y: Array, upper: bool) -> Array:
    """A row of teeth over the region, (h, w, 4), premultiplied."""
    first, table = arch
    there = lookup(table, (x - np.float32(first)) / np.float32(_TABLE_STEP))
    down = y - there[..., 1]
    if not upper:
        down = -down
    texture = layer.upper if upper else layer.lower
    u = there[..., 0] * np.float32(layer.per_mm)
    # Beyond the texture the gum goes on.
    v = np.maximum((down + np.float32(teeth.ROOT)) * np.float32(layer.per_mm), np.float32(1))
    mode = cv2.BORDER_CONSTANT
    rows = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=mode)
    return np.asarray(rows * there[..., 3:], np.float32)


def _seam(layer: MouthLayer, region: Lens, mm: float) -> list[Coat]:
    """A soft dark line where lips that are open in the picture meet."""
    own = step((float(layer.shape[:-1].max()) - 0.8) / 2)
    height = np.maximum(region.below + region.above, 0).max() / mm
    strength = 0.7 * own * step(1.6 - float(height))
    if strength <= 0.01:
        return []
    reach = np.float32(max(0.9, 0.7 * mm))
    seam = 0.5 * (region.below - region.above) / reach
    ends = smoothstep(np.minimum(region.along, 1 - region.along) * np.float32(7))
    return [Coat(region, layer.seam, np.float32(strength) * ends * np.exp(-seam * seam))]


def _millimetres(inverse: Array, region: Lens, origin: Array) -> tuple[Array, Array]:
    dx, dy = region.x - origin[0], region.y - origin[1]
    return inverse[0, 0] * dx + inverse[0, 1] * dy, inverse[1, 0] * dx + inverse[1, 1] * dy


def _jaws(layer: MouthLayer, points: Array) -> _Jaws:
    skull = points[_SKULL, :2]
    centre = skull.mean(axis=0)
    # Least-squares affine camera from the picture's head in space to the frame.
    camera = (layer.solve @ (skull - centre)).T
    axes = camera @ layer.axes
    drop = points[_JAW, :2].mean(axis=0) - (camera @ (layer.jaw - layer.skull) + centre)
    inverse = inverted(axes[:, :2])
    mm = float(np.linalg.norm(points[263] - points[33])) / teeth.OUTER_EYES_MM
    upper = camera @ (layer.upper_edge - layer.skull) + centre
    # A lip hangs on its teeth: an open mouth shows some of them, and never their gum alone.
    down = np.asarray(axes[:, 1], np.float32)
    shown = float((upper - points[13, :2]) @ down) / float(down @ down)
    short, long = _SHOWN[0] - shown, shown - _SHOWN[1]
    upper = upper + down * np.float32(
        0.5 * (short + np.hypot(short, 1.0)) - 0.5 * (long + np.hypot(long, 1.0))
    )
    return _Jaws(
        inverse=inverse,
        back=np.asarray(inverse @ axes[:, 2], np.float32),
        upper=upper,
        lower=camera @ (layer.lower_edge - layer.skull) + centre + drop,
        mm=mm,
    )


def _shape(points: Array, mm: float) -> Array:
    """Opening at the inner lip points and width, (10,) in millimetres."""
    opening = np.linalg.norm(points[_LOWER, :2] - points[_UPPER, :2], axis=1)[1:-1]
    width = np.linalg.norm(points[308] - points[78])
    return np.append(opening, width).astype(np.float32) / np.float32(mm)


# --- once per portrait ---------------------------------------------------------------------------


def _head_axes(points: Array) -> Array:
    """Right, down and back of the head as columns (3, 3), a millimetre long in pixels."""
    right = points[263] - points[33]
    mm = float(np.linalg.norm(right)) / teeth.OUTER_EYES_MM
    right = right / np.linalg.norm(right)
    down = points[2] - points[168]
    down = down - right * (down @ right)
    down = down / np.linalg.norm(down)
    return np.asarray(np.stack([right, down, np.cross(right, down)], axis=1) * mm, np.float32)


def _edges(points: Array, axes: Array, seen: float) -> tuple[Array, Array]:
    """Midpoints of the upper and lower cutting edges, (3,) each.

    At rest the upper incisors end about two millimetres below the upper lip's edge, the lower ones
    about level with the lower lip's. In a smile the lip has risen; ``seen`` millimetres show.
    """
    mm2 = float(axes[:, 0] @ axes[:, 0])
    # Halfway between the nose's and the lips' midline: a crooked smile keeps its teeth straight.
    middle = 0.5 * (points[13] + points[14])
    shift = axes[:, 0] * (0.5 * float((points[2] - middle) @ axes[:, 0]) / mm2)
    upper = points[13] + shift + max(2.4, seen) * axes[:, 1] + 3.0 * axes[:, 2]
    lower = points[14] + shift + 0.6 * axes[:, 1] + 4.5 * axes[:, 2]
    return np.asarray(upper, np.float32), np.asarray(lower, np.float32)


def _seen_teeth(picture: Array, points: Array, axes: Array, colours: Palette) -> float:
    """How many millimetres of upper teeth the picture shows below the upper lip, 0..11."""
    mm = float(np.linalg.norm(axes[:, 0]))
    opening = float(np.linalg.norm(points[14] - points[13])) / mm
    if opening < 0.06 * teeth.OUTER_EYES_MM:
        return 0.0
    steps = np.arange(0.5, opening, 0.25, dtype=np.float32)
    line = points[13] + steps[:, None] * axes[:, 1]
    rows = np.stack([discs(picture, p[None, :2], 0.5 * mm).mean(axis=0) for p in line])
    light = luminance(rows)
    bright = light > 0.62 * float(luminance(colours.enamel).mean())
    return float(min(steps[bright].max() + 0.6, 11.0)) if bright.sum() * 0.25 > 1.5 else 0.0


def _row(upper: bool, per_mm: float, colours: Palette, rng: np.random.Generator) -> Array:
    """A row of teeth in the portrait's colours, (h, w, 4), premultiplied."""
    light, cover, gum = teeth.row(upper, per_mm, rng)
    place = np.linspace(0, 1, light.shape[1], dtype=np.float32)[None, :, None]
    place = np.clip((place - 0.5) * 2 + 0.5, 0, 1)
    enamel = colours.enamel[0] * (1 - place) + colours.enamel[1] * place
    if not upper:
        enamel = enamel * np.float32(0.86)
    colour = enamel * light[..., None]
    colour = colour + (colours.gum * light[..., None] - colour) * gum[..., None]
    rough = rng.normal(0, colours.grain, light.shape).astype(np.float32)
    colour = colour * (1 + rough[..., None])
    cover = cover[..., None]
    return np.concatenate([np.clip(colour, 0, 250) * cover, cover], axis=-1).astype(np.float32)
