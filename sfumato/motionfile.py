"""What moves: one frame of motion, a sequence of them, and the ``.motion`` file.

A motion belongs to nobody: poses are relative to the rest pose, expressions to the neutral face.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.media.files import output_errors, replacing
from sfumato.timebase import FPS

N_EXPRESSION = 40
N_INTERIOR = 3
N_SKIN = 128
N_LIGHT = 64
# The first expression coefficients have names; the others are principal components.
EXPRESSION_NAMES = (
    "blink_left",
    "blink_right",
    "mouth_open",
    "mouth_wide",
    "smile",
    "brows_up",
)
FORMAT_VERSION = 4
_LATER = ("interior", "skin", "light")  # came with versions 2, 3 (64 numbers) and 4

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class MotionFrame:
    """One frame.

    Attributes:
        pose: (6,) yaw, pitch, roll in radians, x, y in face units, log scale; relative to rest.
        expression: (N_EXPRESSION,), about unit variance each; 0 is the neutral face.
        gaze: (2,) yaw, pitch of the eyes in the head, relative to their rest, radians, signs as the
            head's.
        breath: 0 (out) to 1 (in).
        interior: (N_INTERIOR,) what is seen between the lips, see :mod:`sfumato.interior`, in
            standard deviations; 0 is what a mouth of this shape usually shows.
        skin: (N_SKIN,) how skin lies beside where landmarks let expect it, see
            :mod:`sfumato.render.slide`, in standard deviations; 0 is what is usual.
        light: (N_LIGHT,) how the light on the face changed otherwise than such a move lets expect,
            see :mod:`sfumato.render.light`, in standard deviations; 0 is what is usual.
    """

    pose: Float32
    expression: Float32
    gaze: Float32
    breath: float = 0.0
    interior: Float32 = field(default_factory=lambda: np.zeros(N_INTERIOR, np.float32))
    skin: Float32 = field(default_factory=lambda: np.zeros(N_SKIN, np.float32))
    light: Float32 = field(default_factory=lambda: np.zeros(N_LIGHT, np.float32))

    @staticmethod
    def neutral() -> MotionFrame:
        """The rest pose with a neutral face looking straight ahead."""
        zeros = np.zeros(N_EXPRESSION, np.float32)
        return MotionFrame(np.zeros(6, np.float32), zeros, np.zeros(2, np.float32), 0.0)


@dataclass(frozen=True)
class Motion:
    """Frames at ``FPS``; all arrays float32 with the time first. Units as in MotionFrame.

    Attributes:
        pose: (T, 6).
        expression: (T, N_EXPRESSION).
        gaze: (T, 2).
        breath: (T,).
        interior: (T, N_INTERIOR).
        skin: (T, N_SKIN).
        light: (T, N_LIGHT).
    """

    pose: Float32
    expression: Float32
    gaze: Float32
    breath: Float32
    interior: Float32
    skin: Float32
    light: Float32

    def __post_init__(self) -> None:
        for name, shape in _shapes(len(self.pose)).items():
            array = np.asarray(getattr(self, name), np.float32)
            if array.shape != shape:
                raise ValueError(f"{name} is {array.shape}, not {shape}")
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.pose)

    @overload
    def __getitem__(self, index: int) -> MotionFrame: ...
    @overload
    def __getitem__(self, index: slice) -> Motion: ...
    def __getitem__(self, index: int | slice) -> MotionFrame | Motion:
        parts = {f.name: getattr(self, f.name)[index] for f in fields(self)}
        if isinstance(index, slice):
            return Motion(**parts)
        return MotionFrame(**parts | {"breath": float(parts["breath"])})

    @staticmethod
    def zeros(count: int) -> Motion:
        """``count`` neutral frames at rest."""
        return Motion(*(np.zeros(shape, np.float32) for shape in _shapes(count).values()))

    @staticmethod
    def concat(parts: Sequence[Motion]) -> Motion:
        """The parts one after the other (none: an empty motion)."""
        parts = [Motion.zeros(0), *parts]
        return Motion(
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Motion))
        )

    def save(self, path: str | Path) -> None:
        """Writes a ``.motion`` file; it is there complete or not at all.

        Raises:
            OutputError: The place cannot be written to.
        """
        header = {
            "format": "sfumato motion",
            "format_version": FORMAT_VERSION,
            "fps": FPS,
            "expression_names": list(EXPRESSION_NAMES),
        }
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        path = Path(path)
        with replacing(path) as partial, output_errors(path), partial.open("wb") as handle:
            np.savez_compressed(handle, header=np.array(json.dumps(header)), **arrays)

    @staticmethod
    def load(path: str | Path) -> Motion:
        """Reads what :meth:`save` wrote.

        Raises:
            InputError: Missing, not a motion file, of a newer version, damaged or not finite.
        """
        path = Path(path)
        arrays = _stored(path)
        version = _version(path, arrays)
        try:
            shapes = _shapes(len(arrays["pose"]))
            if version < FORMAT_VERSION:
                arrays |= {name: _grown(arrays.get(name), shapes[name]) for name in _LATER}
            motion = Motion(*(arrays[f.name] for f in fields(Motion)))
        except (LookupError, ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}); make it anew") from error
        if not all(np.isfinite(getattr(motion, f.name)).all() for f in fields(Motion)):
            raise InputError(f"{path} holds numbers that are not finite; make it anew")
        return motion


def _shapes(count: int) -> dict[str, tuple[int, ...]]:
    return {
        "pose": (count, 6),
        "expression": (count, N_EXPRESSION),
        "gaze": (count, 2),
        "breath": (count,),
        "interior": (count, N_INTERIOR),
        "skin": (count, N_SKIN),
        "light": (count, N_LIGHT),
    }


def _grown(array: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any]:
    """What an older file has, if anything, with 0 for the numbers that came later: (T, N)."""
    if array is None:
        return np.zeros(shape, np.float32)
    return np.pad(array, ((0, 0), (0, max(0, shape[1] - array.shape[1]))))


def _stored(path: Path) -> dict[str, NDArray[Any]]:
    """What lies in the file, by name."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # what damage trips in zip, zlib and numpy has no common base
        raise _no_motion(path) from error


def _version(path: Path, arrays: dict[str, NDArray[Any]]) -> int:
    """Of the format; raises :class:`InputError` for what cannot be read."""
    try:
        header = json.loads(str(arrays["header"]))
        version, fps = int(header["format_version"]), header["fps"]
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _no_motion(path) from error
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path} has format {version}, this program reads {FORMAT_VERSION}: update"
        )
    if fps != FPS:
        raise InputError(f"{path} has {fps} frames a second, not {FPS}: make it anew")
    return version


def _no_motion(path: Path) -> InputError:
    return InputError(f"{path} is not a motion file; make one with 'sfumato motion'")
