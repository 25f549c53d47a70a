"""What a feeling adds to the face: one offset of the expression for each emotion, as learned.

The table ``emotions.npz`` is made by ``sfumato train emotion``. No offset parts the lips, so that
p, b and m still close; what it does to the lids gives way to a blink. See ``docs/motion.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato import weights
from sfumato.errors import InputError
from sfumato.media.arrays import save_arrays
from sfumato.motionfile import N_EXPRESSION

Float32 = NDArray[np.float32]
# Names and strengths, as a mapping or as pairs.
Weights = Mapping[str, float] | Iterable[tuple[str, float]]

EMOTIONS = (
    "neutral",
    "happy",
    "sad",
    "angry",
    "surprised",
    "afraid",
    "disgusted",
    "contemptuous",
)
FORMAT_VERSION = 1
_LIDS = slice(0, 2)  # of the expression: blink_left and blink_right


@dataclass(frozen=True)
class Emotions:
    """The learned table. Immutable.

    Attributes:
        offsets: (8, N_EXPRESSION) float32 by :data:`EMOTIONS`, at full strength.
        shut: (8, 2) float32, what stands for the offsets' own blinks where a blink shuts the lids:
            with it the rest of the offset moves no lid.
    """

    offsets: Float32
    shut: Float32

    @staticmethod
    @cache
    def load(path: Path | None = None) -> Emotions:
        """Reads a table; without a path the one that ships with the package.

        Raises:
            InputError: Not a table of this version.
        """
        source, count = path or weights.find("emotions.npz"), len(EMOTIONS)
        shapes = {"names": (count,), "offsets": (count, N_EXPRESSION), "shut": (count, 2)}
        stored = weights.versioned(source, FORMAT_VERSION, shapes, "emotions", "train it anew")
        if tuple(stored["names"].tolist()) != EMOTIONS:
            raise InputError(f"{source} is of another version: train it anew")
        return Emotions(stored["offsets"].astype(np.float32), stored["shut"].astype(np.float32))

    def save(self, path: Path) -> None:
        """Writes a file for :meth:`load`."""
        save_arrays(
            path,
            {
                "format_version": np.array(FORMAT_VERSION),
                "names": np.array(EMOTIONS),
                "offsets": self.offsets.astype(np.float32),
                "shut": self.shut.astype(np.float32),
            },
            packed=True,
        )

    def offset(self, weights: Weights, lids: float = 0.0) -> Float32:
        """What a mixture of emotions adds to the expression, (N_EXPRESSION,) float32.

        Args:
            weights: strengths in 0..1 by name.
            lids: how far a blink has shut the lids, 0 to 1.
        """
        total = np.zeros(N_EXPRESSION, np.float32)
        for name, strength in dict(weights).items():
            number = EMOTIONS.index(name)
            part = self.offsets[number].copy()
            part[_LIDS] += np.float32(lids) * (self.shut[number] - part[_LIDS])
            total += np.float32(strength) * part
        return total


def offset(weights: Weights, lids: float = 0.0) -> Float32:
    """:meth:`Emotions.offset` of the table that ships with the package."""
    return Emotions.load().offset(weights, lids)


def checked(weights: Weights) -> tuple[tuple[str, float], ...]:
    """Strengths in the order of :data:`EMOTIONS`, without zeros and without neutral: both add none.

    Raises:
        InputError: An unknown emotion, a strength out of range, or together more than 1.
    """
    given = dict(weights)
    if unknown := [str(name) for name in given if name not in EMOTIONS]:
        raise InputError(f'unknown emotion "{unknown[0]}"; known: {", ".join(EMOTIONS)}')
    for name, strength in given.items():
        if not 0.0 <= strength <= 1.0:
            raise InputError(f"emotion {name} is {strength:g}: choose a strength from 0 to 1")
    if (total := sum(given.values())) > 1.0 + 1e-6:  # interpolation rounds
        raise InputError(f"the emotions' strengths add up to {total:g}: at most 1 together")
    return tuple((name, float(given[name])) for name in EMOTIONS[1:] if given.get(name))
