"""How the light on a face changes while it turns and moves.

Light stays where it is when a head turns: cheeks brighten towards it and darken away from it, folds
throw shadows, a lifted chin uncovers the neck. Pixels that are merely moved take their light along.
Here every vertex of the mesh has a gain, told by three things along axes of its own, the principal
components of what clips show:

* what the photo's own light lets expect of the turn: irradiance in spherical harmonics up to the
  second order (Ramamoorthi and Hanrahan 2001), fitted to the photo's skin by the mesh's normals,
  as far as clips agree with it;
* what usually goes with a move of the head and the face;
* what a video showed, the ``light`` of a motion (:mod:`sfumato.render.skinmeter`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import rotation, topology, warp
from sfumato.geometry.pose import compose
from sfumato.latent import Latents, MotionFrame
from sfumato.media.arrays import save_arrays
from sfumato.motionfile import N_EXPRESSION, N_LIGHT
from sfumato.render.portrait import Portrait
from sfumato.render.skin import N_VERTICES
from sfumato.weights import find, versioned

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Reals = NDArray[np.floating]

FORMAT_VERSION = 1
N_MOVES = 8 + N_EXPRESSION
BLUR = 7.0  # canvas pixels of 512: light is what is wider than this
DARK = 8.0  # grey levels added before gains are formed: black stays black
_STRONGEST = 0.5  # natural logarithm of a gain: more is an error
_LEAST = 0.25  # of the skin's median: darker than this no turn makes it
_PATCH = 2  # pixels of the decoder's small canvas per pixel of the light's maps
_STIFF = 0.003  # ridge of the fit: light from all sides where the photo does not tell
_TRIES = 4  # of the fit, each time with less trust in what is far off (beards, brows, stains)
_FEATURES = sorted(
    {
        *topology.LEFT_EYE,
        *topology.RIGHT_EYE,
        *topology.INNER_LIPS,
        *topology.OUTER_LIPS,
        *topology.LEFT_BROW_UPPER,
        *topology.LEFT_BROW_LOWER,
        *topology.RIGHT_BROW_UPPER,
        *topology.RIGHT_BROW_LOWER,
    }
)
_HOLES = (topology.LEFT_EYE, topology.RIGHT_EYE, topology.INNER_LIPS)


@dataclass(frozen=True)
class Light:
    """What clips say of light on faces. Immutable; share one object.

    Attributes:
        axes: (N_LIGHT, V) natural logarithm of the gain at every vertex of the mesh, for a standard
            deviation of each number of a motion's light.
        moves: (N_MOVES, N_LIGHT) what goes with a unit of every move, see :func:`moved`.
        shades: (468, N_LIGHT) what goes with the logarithms of gains that the photo's own light
            lets expect at the face's vertices.
    """

    axes: Floats
    moves: Floats
    shades: Floats

    @staticmethod
    @lru_cache(maxsize=2)
    def load(path: Path | None = None) -> Light:
        """Reads a file; without a path the one that ships with the package.

        Raises:
            InputError: Not a file of this version.
        """
        shapes = {
            "axes": (N_LIGHT, N_VERTICES),
            "moves": (N_MOVES, N_LIGHT),
            "shades": (topology.N_FACE, N_LIGHT),
        }
        cure = "run sfumato train light again"
        source = path or find("light.npz")
        stored = versioned(source, FORMAT_VERSION, shapes, "light on faces", cure)
        return Light(**{name: array.astype(np.float32) for name, array in stored.items()})

    def save(self, path: Path) -> None:
        """Writes a file for :meth:`load`."""
        arrays = {f.name: getattr(self, f.name).astype(np.float16) for f in fields(self)}
        save_arrays(path, {"format_version": np.array(FORMAT_VERSION), **arrays}, packed=True)


def moved(person: Latents, frame: MotionFrame) -> Floats:
    """(N_MOVES,) how a frame differs from the photo: pose, gaze, expression."""
    return np.concatenate([frame.pose, frame.gaze, frame.expression - person.expression])


class Shading:
    """The light on one photo. Holds no state that a frame could change.

    Args:
        portrait: the photo.
    """

    def __init__(self, portrait: Portrait) -> None:
        self._person = portrait.latents
        vertices = portrait.mesh.vertices
        self._normals = _normals(vertices)
        seen = at_vertices(*blurred(portrait.canvas.image, portrait.alpha, vertices), vertices)
        level = seen[: topology.N_FACE]
        self._harmonics = _fitted(self._normals, level)
        usual = float(np.median(level[np.isfinite(level)])) if np.isfinite(level).any() else 0.0
        self._floor = max(_LEAST * usual, 1.0)
        self._rest = np.maximum(_harmonics(self._normals) @ self._harmonics, self._floor)

    def expected(self, frame: MotionFrame) -> Floats:
        """(468,) natural logarithm of the gain that the turn lets expect."""
        rest, pose = self._person.pose, compose(self._person.pose, frame.pose)
        before = rotation.matrix(rest.yaw, rest.pitch, rest.roll)
        after = rotation.matrix(pose.yaw, pose.pitch, pose.roll)
        normals = self._normals @ (after @ before.T).T
        shade = np.maximum(_harmonics(normals) @ self._harmonics, self._floor)
        gain = np.log(shade / self._rest)
        return np.asarray(np.clip(gain, -_STRONGEST, _STRONGEST), np.float32)


class Lamp:
    """Lights frames of one portrait. Holds no state that a frame could change.

    Args:
        source: (V, 2) places of the mesh's vertices in a small texture, pixels.
        side: of that texture.
    """

    def __init__(self, light: Light, portrait: Portrait, source: Floats, side: int) -> None:
        self._light, self._person = light, portrait.latents
        self._shading = Shading(portrait)
        self._maps = _maps(light.axes, portrait, source, side)

    def weights(self, frame: MotionFrame) -> Floats:
        """(N_LIGHT,) along the axes: what is expected, and what the motion tells."""
        light = self._light
        usual = moved(self._person, frame) @ light.moves
        return np.asarray(usual + self._shading.expected(frame) @ light.shades + frame.light)

    def gains(self, frame: MotionFrame, place: Floats) -> Floats:
        """Gain less one at every pixel, (h, w) float32.

        Args:
            place: (h, w, 2) where in the small texture each pixel's colour comes from.
        """
        height, width = self._maps.shape[1:]
        told = (self.weights(frame) @ self._maps.reshape(N_LIGHT, -1)).reshape(height, width)
        at = (place + np.float32(0.5)) / np.float32(_PATCH) - np.float32(0.5)
        mode = cv2.BORDER_REPLICATE
        found = cv2.remap(told, at, None, cv2.INTER_LINEAR, borderMode=mode)  # type: ignore[call-overload]  # stubs want a second map
        return np.asarray(np.expm1(np.clip(found, -_STRONGEST, _STRONGEST)), np.float32)


def blurred(picture: Image, alpha: Image, landmarks: Floats) -> tuple[Floats, Floats]:
    """Light of a person in a picture, and where it can be told.

    Args:
        picture: (S, S, 3) uint8 RGB; ``alpha`` (S, S) uint8, its matte.
        landmarks: (>= 468, 3) pixels; eyes and the opening of the lips do not count.

    Returns:
        (S / 2, S / 2) float32 each: mean grey level around every second pixel, and the share of it
        that counts, 0..1.
    """
    half = (picture.shape[1] // 2, picture.shape[0] // 2)
    counts = cv2.resize(alpha, half, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    for ring in _HOLES:
        outline = (landmarks[list(ring), :2] + 0.5) / 2 - 0.5
        cv2.fillPoly(counts, [np.round(8 * outline).astype(np.int32)], 0, shift=3)
    grey = cv2.cvtColor(cv2.resize(picture, half, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    sigma = BLUR / 2 * picture.shape[0] / 512
    share = cv2.GaussianBlur(counts, (0, 0), sigma)
    light = cv2.GaussianBlur(grey * counts, (0, 0), sigma) / np.maximum(share, 1e-3)
    return np.asarray(light, np.float32), np.asarray(share, np.float32)


def at_vertices(light: Floats, share: Floats, points: Reals) -> Floats:
    """What :func:`blurred` says at points (V, >= 2) of the picture: (V,), NaN where it cannot."""
    at = np.asarray((points[:, :2] + 0.5) / 2 - 0.5, np.float32)
    value, counts = (
        cv2.remap(v, at[None], None, cv2.INTER_LINEAR, borderValue=0.0)[0]  # type: ignore[call-overload]  # stubs want a second map
        for v in (light, share)
    )
    return np.where(counts > 0.25, value, np.nan).astype(np.float32)


def _maps(axes: Floats, portrait: Portrait, source: Floats, side: int) -> Floats:
    """The axes (N_LIGHT, h, w) over the small texture."""
    size = side // _PATCH
    points = ((source + 0.5) / _PATCH - 0.5).astype(np.float32)
    depth, triangles = portrait.mesh.vertices[:, 2], portrait.mesh.triangles
    pairs = axes.reshape(-1, 2, axes.shape[1])
    maps = [warp.rasterise(points, depth, two.T, triangles, (size, size)) for two in pairs]
    return np.concatenate([np.moveaxis(two, 2, 0) for two in maps]).astype(np.float32)


def _normals(vertices: Floats) -> Reals:
    """(468, 3) of the face's vertices, towards the viewer (z < 0), smooth."""
    corners = np.asarray(vertices[: topology.N_FACE], np.float64)
    triangles = topology.TRIANGLES
    a, b, c = (corners[triangles[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    across *= -np.sign(across[:, 2:])
    normals = np.zeros_like(corners)
    for k in range(3):
        np.add.at(normals, triangles[:, k], across)
    smooth = _neighbours() @ (_neighbours() @ normals)
    return np.asarray(smooth / np.linalg.norm(smooth, axis=1, keepdims=True))


@lru_cache(maxsize=1)
def _neighbours() -> NDArray[np.float64]:
    """(468, 468): the mean of a vertex and those beside it."""
    beside = np.eye(topology.N_FACE)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        pairs = topology.TRIANGLES[:, one], topology.TRIANGLES[:, other]
        beside[pairs] = beside[pairs[::-1]] = 1
    return np.asarray(beside / beside.sum(axis=1, keepdims=True))


def _harmonics(normals: Reals) -> Reals:
    """(V, 9) real spherical harmonics up to order 2 of normals (V, 3), without their factors."""
    x, y, z = normals.T
    one = np.ones_like(x)
    rows = [one, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return np.stack(rows, axis=1)


def _fitted(normals: Reals, seen: Floats) -> Reals:
    """(9,) light that lights skin of one colour as it is ``seen`` (468,), as well as it can."""
    rows = _harmonics(normals)
    facing = np.clip(-normals[:, 2], 0.05, 1)
    facing[_FEATURES] = 0
    facing[~np.isfinite(seen)] = 0
    level = np.nan_to_num(seen)
    weight, light = facing, np.zeros(9)
    for _ in range(_TRIES):
        ridge = (_STIFF * weight.sum() + 1e-6) * np.eye(9)
        ridge[0, 0] = 1e-6
        weighted = rows * weight[:, None]
        light = np.linalg.solve(weighted.T @ rows + ridge, weighted.T @ level)
        off = np.abs(level - rows @ light)
        usual = 1.5 * float(np.average(off, weights=facing + 1e-9)) + 1e-6
        weight = facing / (1 + np.square(off / usual))
    return light
