"""Motion for 3D programs: ARKit's 52 blendshapes as a Live Link Face CSV or a glTF face.

A fitted table (``arkit.npz``, made by ``sfumato train arkit``) says how strongly each blendshape is
shown by an expression and a gaze, and how each moves the mean face. "Left" and "right" in
blendshape names are sides of the person, as ARKit has them: the left eye is in the right half of
the image. ``docs/motion.md`` describes the files.
"""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.geometry import topology as topo
from sfumato.latent import FaceBasis
from sfumato.media.arrays import save_arrays
from sfumato.media.files import output_errors, replacing, save_text
from sfumato.motionfile import N_EXPRESSION, Motion
from sfumato.timebase import FPS
from sfumato.version import __version__
from sfumato.weights import find, versioned

Array = NDArray[np.floating]
Float32 = NDArray[np.float32]

_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
# fmt: off
_REST = (
    "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker",
    "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft",
    "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp",
    "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)
# fmt: on
# Apple's order (ARFaceAnchor.BlendShapeLocation).
BLENDSHAPES = (*(f"{n}Left" for n in _EYE), *(f"{n}Right" for n in _EYE), *_REST)
N_BLENDSHAPES = len(BLENDSHAPES)
N_FEATURES = N_EXPRESSION + 2
FORMAT_VERSION = 1

# Live Link Face has the right one of these first.
_SWAPPED = {
    a + b: a + c for a in ("jaw", "mouth") for b, c in (("Left", "Right"), ("Right", "Left"))
}
_ROTATIONS = tuple(
    f"{part}{angle}"
    for part in ("Head", "LeftEye", "RightEye")
    for angle in ("Yaw", "Pitch", "Roll")
)
_CSV_SHAPES = tuple(_SWAPPED.get(name, name) for name in BLENDSHAPES)
CSV_HEADER = (
    "Timecode",
    "BlendshapeCount",
    *(name[0].upper() + name[1:] for name in _CSV_SHAPES),
    *_ROTATIONS,
)

METRES = 0.09  # a face unit, the distance of the outer eye corners, on a usual adult
# From the camera to the resting head. Motion knows only how much larger the head looks.
DISTANCE = 0.6
_AXES = np.array([1.0, -1.0, -1.0])  # image axes (y down, z away) to glTF's (y up, z to the viewer)
TARGET_STEP = 1e-4  # face units per count of the stored targets


def other_side(name: str) -> str:
    """The blendshape's name in the mirror; the same where it has no side."""
    if name.endswith("Left"):
        return name[:-4] + "Right"
    return name[:-5] + "Left" if name.endswith("Right") else name


# (52,) index of each blendshape's mirror image.
MIRROR = tuple(BLENDSHAPES.index(other_side(name)) for name in BLENDSHAPES)


@dataclass(frozen=True)
class ArkitMap:
    """How motion shows as blendshapes. Immutable.

    The rise of a blendshape over the neutral face is
    ``gain * (s(x . weight + bias) - s(bias)) / (1 - s(bias))`` with the logistic function s: the
    neutral motion gives exactly 0.

    Attributes:
        weight: (N_FEATURES, 52) of the expression and the gaze in radians; 0 where a blendshape
            cannot be told from motion.
        bias: (52,).
        gain: (52,).
        targets: (52, 478, 3) float32 displacement of the mean face at 1, head frame, face units.
    """

    weight: Array
    bias: Array
    gain: Array
    targets: Float32

    @staticmethod
    @cache
    def load() -> ArkitMap:
        """The table that ships with the package.

        Raises:
            InputError: Not a table of this version.
        """
        count, cure = len(BLENDSHAPES), "install the package again"
        shapes = {
            "names": (count,),
            "weight": (N_FEATURES, count),
            "bias": (count,),
            "gain": (count,),
            "targets": (count, topo.N_POINTS, 3),
        }
        source = find("arkit.npz")
        stored = versioned(source, FORMAT_VERSION, shapes, "blendshapes", cure)
        if tuple(stored["names"].tolist()) != BLENDSHAPES:
            raise InputError(f"{source} is of another version: {cure}")
        return ArkitMap(
            stored["weight"].astype(np.float64),
            stored["bias"].astype(np.float64),
            stored["gain"].astype(np.float64),
            stored["targets"].astype(np.float32) * np.float32(TARGET_STEP),
        )

    def save(self, path: Path) -> None:
        """Writes a file for :meth:`load`."""
        save_arrays(
            path,
            {
                "format_version": np.array(FORMAT_VERSION),
                "names": np.array(BLENDSHAPES),
                "weight": self.weight.astype(np.float32),
                "bias": self.bias.astype(np.float32),
                "gain": self.gain.astype(np.float32),
                "targets": np.rint(self.targets / TARGET_STEP).astype(np.int16),
            },
            packed=True,
        )

    def scores(self, features: Array) -> Float32:
        """(T, 52) float32 in 0..1 of expression and gaze (T, N_FEATURES)."""
        rest = _logistic(self.bias)
        rise = (_logistic(features @ self.weight + self.bias) - rest) / (1 - rest)
        scores: Float32 = np.clip(self.gain * rise, 0, 1).astype(np.float32)
        return scores


def _logistic(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-np.clip(x, -40, 40)))
    return result


def blendshapes(motion: Motion) -> Float32:
    """ARKit's blendshapes of a motion.

    Returns:
        (T, 52) float32 in 0..1, columns as ``BLENDSHAPES``; 0 for the neutral face, and always 0
        for those that cannot be told from motion (``docs/motion.md`` lists them).
    """
    return ArkitMap.load().scores(np.c_[motion.expression, motion.gaze].astype(np.float64))


def write_live_link_csv(motion: Motion, path: Path) -> None:
    """Writes the CSV that Epic's Live Link Face app records: 63 columns, one row a frame.

    Timecodes count ``FPS`` frames a second. Angles are radians relative to the rest pose: yaw > 0
    turns to the right of the image (the person's left), pitch > 0 up, roll > 0 anticlockwise in the
    image; both eyes look the same way.

    Raises:
        OutputError: The place cannot be written to.
    """
    order = [BLENDSHAPES.index(name) for name in _CSV_SHAPES]
    signs = np.array([1.0, -1.0, -1.0])
    head = motion.pose[:, :3] * signs
    eye = np.c_[motion.gaze * signs[:2], np.zeros(len(motion))]
    table = np.c_[blendshapes(motion)[:, order], head, eye, eye] + 0.0  # no "-0.000000"
    count = str(table.shape[1])
    with (
        replacing(path) as partial,
        output_errors(path),
        partial.open("w", encoding="ascii", newline="") as handle,
    ):
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(CSV_HEADER)
        for frame, values in enumerate(table):
            rows.writerow([_timecode(frame), count, *(f"{v:.6f}" for v in values)])


def _timecode(frame: int) -> str:
    seconds, part = divmod(frame, FPS)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{part:02}.000"


def write_gltf(motion: Motion, path: Path) -> None:
    """Writes an animated face as glTF 2.0 in one file.

    The mean face (478 vertices, metres, eyes and mouth open holes with irises behind) with the 52
    blendshapes as morph targets, named in ``mesh.extras.targetNames``, and one animation of their
    weights and of the head's rotation and translation, a key a frame.

    Raises:
        OutputError: The place cannot be written to.
    """
    text = json.dumps(gltf(motion), separators=(",", ":"))
    save_text(path, text + "\n")


def gltf(motion: Motion) -> dict[str, Any]:
    """The JSON of :func:`write_gltf`."""
    data = _Buffer()
    weights = blendshapes(motion)
    mesh = {
        "name": "face",
        "primitives": _primitives(data),
        "weights": [0.0] * N_BLENDSHAPES,
        "extras": {"targetNames": list(BLENDSHAPES)},
    }
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"Sfumato {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "head", "mesh": 0}],
        "meshes": [mesh],
        "materials": [_material("skin", (0.62, 0.45, 0.36)), _material("iris", (0.07, 0.05, 0.04))],
    }
    if len(motion):  # an animation without keys would not be valid
        document["animations"] = [_animation(data, motion, weights)]
    return document | data.document()


def _primitives(data: _Buffer) -> list[dict[str, Any]]:
    """The skin and the irises: two lists of triangles over the same vertices and targets."""
    mean = FaceBasis.load().mean
    vertices = mean * _AXES * METRES
    # Clockwise on the screen there, anticlockwise as glTF wants it.
    skin = topo.TRIANGLES[:, ::-1]
    rims = [(ring[0], a, b) for ring in (topo.LEFT_IRIS, topo.RIGHT_IRIS) for a, b in _around(ring)]
    iris = np.array([t if _faces_viewer(vertices[list(t)]) else t[::-1] for t in rims])
    attributes = {
        "POSITION": data.add(vertices, "VEC3", vertex=True),
        "NORMAL": data.add(_normals(vertices, np.r_[skin, iris]), "VEC3", vertex=True),
    }
    targets = [
        {"POSITION": data.add(t * _AXES * METRES, "VEC3", vertex=True)}
        for t in ArkitMap.load().targets
    ]
    return [
        {
            "attributes": attributes,
            "indices": data.add_indices(triangles),
            "material": material,
            "targets": targets,
        }
        for material, triangles in enumerate((skin, iris))
    ]


def _around(ring: tuple[int, ...]) -> list[tuple[int, int]]:
    rim = ring[1:]
    return list(zip(rim, rim[1:] + rim[:1], strict=True))


def _faces_viewer(corners: Array) -> bool:
    return bool(np.cross(corners[1] - corners[0], corners[2] - corners[0])[2] > 0)


def _normals(vertices: Array, triangles: NDArray[np.integer]) -> Array:
    """Unit normals (n, 3): the mean of the faces around a vertex, by their area."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], np.cross(b - a, c - a))
    unit: Array = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return unit


def _material(name: str, colour: tuple[float, float, float]) -> dict[str, Any]:
    look = {"baseColorFactor": [*colour, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}
    return {"name": name, "pbrMetallicRoughness": look, "doubleSided": True}


def _animation(data: _Buffer, motion: Motion, weights: Float32) -> dict[str, Any]:
    times = data.add(np.arange(len(motion)) / FPS, "SCALAR", limits=True)
    tracks = {
        "weights": data.add(weights.ravel(), "SCALAR"),
        "rotation": data.add(head_rotations(motion), "VEC4"),
        "translation": data.add(_translations(motion), "VEC3"),
    }
    return {
        "name": "motion",
        "samplers": [
            {"input": times, "output": values, "interpolation": "LINEAR"}
            for values in tracks.values()
        ],
        "channels": [
            {"sampler": number, "target": {"node": 0, "path": name}}
            for number, name in enumerate(tracks)
        ],
    }


def head_rotations(motion: Motion) -> Array:
    """Unit quaternions (T, 4) x, y, z, w of the head, y up and z to the viewer.

    They turn as :func:`sfumato.geometry.rotation.matrix` does: pitch, then yaw, then roll.
    """
    half = motion.pose[:, :3].astype(np.float64) / 2
    (cy, cp, cr), (sy, sp, sr) = np.cos(half).T, np.sin(half).T
    sr = -sr  # clockwise in the image is against z to the viewer
    turns: Array = np.stack(
        [
            cr * cy * sp - sr * sy * cp,
            cr * sy * cp + sr * cy * sp,
            sr * cy * cp - cr * sy * sp,
            cr * cy * cp + sr * sy * sp,
        ],
        axis=1,
    )
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    return turns


def _translations(motion: Motion) -> Array:
    """Metres (T, 3): a head that looks larger is nearer to a camera at ``DISTANCE``."""
    pose = motion.pose.astype(np.float64)
    nearer = np.exp(-pose[:, 5])
    x, y = pose[:, 3] * METRES * nearer, -pose[:, 4] * METRES * nearer
    return np.stack([x, y, DISTANCE * (1 - nearer)], axis=1)


class _Buffer:
    """Collects arrays as accessors of one embedded glTF buffer."""

    _FLOAT, _UINT16 = 5126, 5123
    _VERTICES, _INDICES = 34962, 34963

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def add(self, values: Array, kind: str, vertex: bool = False, limits: bool = False) -> int:
        """Index of a new float accessor; a table of zeros takes no room."""
        values = np.ascontiguousarray(values, "<f4")
        accessor = {"componentType": self._FLOAT, "count": len(values), "type": kind}
        if vertex or limits:
            table = values.reshape(len(values), -1)
            accessor["min"] = [float(v) for v in table.min(axis=0)]
            accessor["max"] = [float(v) for v in table.max(axis=0)]
        if not vertex or values.any():
            accessor["bufferView"] = self._view(values, self._VERTICES if vertex else None)
        return self._accessor(accessor)

    def add_indices(self, triangles: NDArray[np.integer]) -> int:
        """Index of a new accessor of triangle corners."""
        flat = np.ascontiguousarray(triangles.ravel(), "<u2")
        view = self._view(flat, self._INDICES)
        return self._accessor(
            {
                "componentType": self._UINT16,
                "count": len(flat),
                "type": "SCALAR",
                "bufferView": view,
            }
        )

    def _view(self, values: NDArray[Any], target: int | None) -> int:
        self._bytes += bytes(-len(self._bytes) % 4)
        view = {"buffer": 0, "byteOffset": len(self._bytes), "byteLength": values.nbytes}
        self._views.append(view if target is None else view | {"target": target})
        self._bytes += values.tobytes()
        return len(self._views) - 1

    def _accessor(self, accessor: dict[str, Any]) -> int:
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def document(self) -> dict[str, Any]:
        """The parts of the JSON that hold the data."""
        uri = "data:application/octet-stream;base64," + base64.b64encode(self._bytes).decode(
            "ascii"
        )
        return {
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(self._bytes), "uri": uri}],
        }
