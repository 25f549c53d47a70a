"""Two rows of teeth, unrolled along the dental arch, and the arch itself.

Sizes in millimetres are textbook means for adults (crown widths and heights of permanent teeth);
the distance of the outer eye corners, about 90 mm, carries them over to pixels.
"""

from __future__ import annotations

import numpy as np

from sfumato.geometry.ramp import smoothstep
from sfumato.render.paint import Array

OUTER_EYES_MM = 90.0
HALF_ARC = 46.0  # mm of arch on either side of the midline
ROOT = 15.0  # mm of texture away from the edge, gum included
TIP = 2.0  # mm beyond the edge
_ARCH_HALF_WIDTH, _ARCH_DEPTH = 27.0, 38.0

# Width and height of the crowns from the midline outwards.
_UPPER = ((8.6, 10.5), (6.6, 9.2), (7.6, 10.2), (7.0, 8.5), (6.8, 8.0), (9.5, 7.0))
_LOWER = ((5.3, 8.8), (5.8, 9.0), (6.8, 10.0), (7.0, 8.5), (7.1, 8.0), (10.0, 7.0))
# How far people's teeth stray from the mean: widths and light as a share, edges in mm.
_WIDER, _DARKER, _LONGER, _ASLANT = 0.04, 0.06, 0.2, 0.15


def arch() -> tuple[Array, Array, Array]:
    """Arc length, sideways position and depth of points along the arch, (n,) each, mm."""
    t = np.linspace(-np.pi / 2, np.pi / 2, 721)
    x, depth = _ARCH_HALF_WIDTH * np.sin(t), _ARCH_DEPTH * (1 - np.cos(t))
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(depth)))])
    length -= length[len(t) // 2]
    arc = np.linspace(-HALF_ARC, HALF_ARC, 93)
    return (
        arc.astype(np.float32),
        np.interp(arc, length, x).astype(np.float32),
        np.interp(arc, length, depth).astype(np.float32),
    )


def grid(per_mm: float) -> tuple[Array, Array]:
    """Texture coordinates: arc length (1, w) and distance below the cutting edge (h, 1), mm."""
    arc = np.arange(-HALF_ARC, HALF_ARC, 1 / per_mm, dtype=np.float32)[None]
    below = np.arange(-ROOT, TIP, 1 / per_mm, dtype=np.float32)[:, None]
    return arc, below


def row(upper: bool, per_mm: float, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """One row of teeth.

    Args:
        upper: The upper row; else the lower one (its root points down: flip it when drawing).
        per_mm: Texture pixels per millimetre.
        rng: Makes them somebody's own: no two teeth are alike.

    Returns:
        Light on the enamel, coverage of the row with its gum, share of gum: (h, w) in 0..1.
    """
    arc, below = grid(per_mm)
    light: Array = np.zeros((below.shape[0], arc.shape[1]), np.float32)
    edge = np.full_like(light, -100.0)
    gum = np.full_like(light, -100.0)
    for way in (-1, 1):
        out, start = way * arc, 0.0
        for number, (usual, height) in enumerate(_UPPER if upper else _LOWER):
            own = rng.normal(size=4)
            width = usual * (1 + _WIDER * own[0])
            across = (out - start - width / 2) / np.float32(width / 2)
            mine = (np.abs(across) <= 1) & (out >= 0)
            shade, tip, root = _tooth(np.abs(across), below, number, width / 2, height, upper)
            tip = tip + _LONGER * own[1] + _ASLANT * own[2] * across
            light = np.where(mine, shade * np.float32(1 - _DARKER * abs(own[3])), light)
            edge = np.where(mine, tip, edge)
            gum = np.where(mine, root, gum)
            start += width
    soft = np.float32(max(0.7, 1.0 / per_mm))
    cover = smoothstep((edge - below) / soft + np.float32(0.5))
    # Behind the canines the row turns away from the light.
    turn = 1 - np.float32(0.72) * smoothstep((np.abs(arc) - 10) / np.float32(26))
    pink = smoothstep((gum - below) / np.float32(1.2) + np.float32(0.5))
    light = light + (np.float32(0.92) - light) * pink
    return light * turn, cover, pink


def _tooth(
    across: Array, below: Array, number: int, half: float, height: float, upper: bool
) -> tuple[Array, Array, Array]:
    """Light, cutting edge and gum line of one tooth; ``across`` is 0 in its middle, 1 at a side."""
    steps = (0.0, 0.7, 0.0, 0.9, 1.3, 1.8) if upper else (0.3, 0.2, 0.0, 0.8, 1.2, 1.8)
    step = steps[number]
    point = 0.8 if number == 2 else 0.15
    edge = -step - point * across - 0.9 * across**6
    gum = -height + 1.6 * across**2
    from_side = (1 - across) * np.float32(half)
    # The gap is a fine line between the necks and opens towards the edge.
    gap_width = 0.25 + 0.3 * smoothstep((below + 2.2) / np.float32(2.2))
    light = 1 - np.float32(0.2) * np.exp(-((from_side / gap_width) ** 2))
    light = light * (1 - np.float32(0.10) * across**2)
    # Enamel is translucent at the edge and warmer, darker towards the neck.
    light = light * (1 - np.float32(0.14) * smoothstep((below + 1.6) / np.float32(1.8)))
    light = light * (1 - np.float32(0.16) * smoothstep((-below - 4) / np.float32(6)))
    shape = np.broadcast_shapes(across.shape, below.shape)
    return light, np.broadcast_to(edge, shape), np.broadcast_to(gum, shape)
