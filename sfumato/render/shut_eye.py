"""What lies behind lids that are shut in the picture: an eye is made up, in the picture's colours.

Nobody knows these eyes; a plain dark pair is what most people have. Without it opened lids would
show the lashes and the skin that lay between them, drawn out.
"""

from __future__ import annotations

import numpy as np

from sfumato.geometry.ramp import smoothstep
from sfumato.render.paint import Array, Lens, luminance

SHUT = 0.1  # opening of the lids over their width: less shows no eye
SHADOW = 0.35  # of the light is lost under the upper lid
# Of the eye's width, as in the mean face; the middle of the iris lies above the line of the lids.
_RADIUS, _RAISED = 0.2, 0.04
_PUPIL, _RIM = 0.42, 0.85  # of the radius
# Over the skin's light: white of the eye, iris, pupil. Iris and white keep so much of its colour.
_WHITE, _IRIS, _DARK = 1.02, 0.34, 0.1
_WARM = 0.3
_DARKEST_WHITE = 110.0  # grey levels: dark skin has no grey eyes
_GLINT = (-0.32, -0.36, 0.16, 0.75)  # place and radius, of the iris' radius; light, of the white's


def make_up(region: Lens, corners: Array, skin: Array) -> tuple[Array, Array, Array, Array]:
    """A sclera, an iris and a catch-light, as the eye of a picture is taken apart.

    Args:
        region: the shut lids and their surroundings.
        corners: (2, 2) left and right corner, pixels.
        skin: (3,) colour of the cheek, RGB 0..255.

    Returns:
        ``white`` (h, w, 3), ``iris`` (h, w, 4) premultiplied by its coverage, ``glint`` (h, w, 3)
        and the iris' ``centre`` (2,).
    """
    along = corners[1] - corners[0]
    width = float(np.hypot(*along))
    up = np.array([along[1], -along[0]]) / max(width, 1e-3)
    centre = np.asarray(corners.mean(axis=0) + _RAISED * width * up, np.float32)
    radius = _RADIUS * width
    light = float(luminance(skin))
    level = max(_WHITE * light, _DARKEST_WHITE)
    white = level * ((1 - _WARM) + _WARM * skin / max(light, 1.0))
    x, y = (region.x - centre[0]) / radius, (region.y - centre[1]) / radius
    away = np.hypot(x, y)
    soft = 1.5 / radius
    pupil = 1 - smoothstep((away - _PUPIL) / soft + np.float32(0.5))
    rim = smoothstep((away - _RIM) * np.float32(6))
    brown = _IRIS * (0.8 + 0.4 * smoothstep(y + np.float32(0.5))) * (1 - 0.4 * rim)
    shade = brown * (1 - pupil) + _DARK * pupil
    cover = (1 - smoothstep((away - 1) / soft + np.float32(0.5)))[..., None]
    iris = shade[..., None] * skin * cover
    right, low, size, bright = _GLINT
    spot = 1 - smoothstep((np.hypot(x - right, y - low) - size) / soft + np.float32(0.5))
    glint = np.broadcast_to((bright * level * spot)[..., None], (*spot.shape, 3))
    whole = np.broadcast_to(white.astype(np.float32), glint.shape).copy()
    disc = np.concatenate([iris, cover], axis=-1)
    return whole, disc.astype(np.float32), glint.astype(np.float32), centre
