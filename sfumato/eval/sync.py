"""The sync expert: does a sound belong to the motion of a face, and at which lag?

A network trained on real people (``sfumato train sync``) gives a unit vector for every frame of
motion and every frame of sound; their mean product over a clip, lag by lag, is the measure. It
looks at tracked motion, so rendered video is judged after our own tracker has seen it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.engine import Network
from sfumato.errors import InputError
from sfumato.latent import Motion
from sfumato.speech import HOPS_PER_FRAME, SpeechState, features
from sfumato.timebase import SAMPLES_PER_FRAME

Array = NDArray[np.floating]

MARGIN = 8  # frames at both ends of a clip for which the expert has no answer
REACH = 15  # lags to either side, frames
APART = 5  # from this lag on sound and motion count as out of step
WINDOW = 50  # frames that a verdict on the expert itself may see
LIDS = 2  # the first coefficients of an expression: lips do not blink
_FEWEST = 8  # answers that a lag must rest on


@dataclass(frozen=True)
class SyncScores:
    """What the expert says of a clip.

    Attributes:
        confidence: mean product at lag 0 minus the median over all lags.
        distance: mean distance of the vectors at lag 0 minus its median over all lags; below 0 is
            in step.
        lag: frames by which the motion comes later than the sound where they agree best.
    """

    confidence: float
    distance: float
    lag: float


class SyncExpert:
    """The network with its two sides. Holds no state.

    Args:
        network: ``motion`` (1, T, n), ``sound`` (1, 4 T, N_MELS) -> twice (1, T - 2 MARGIN, E).
    """

    def __init__(self, network: Network) -> None:
        if network.metadata.get("format_version") != "1":
            raise InputError("the sync expert is of another version: train or install it anew")
        self._network = network

    @staticmethod
    def load(path: Path | None = None) -> SyncExpert:
        """The shipped expert, or one from an ONNX file.

        Raises:
            InputError: Not a sync expert of this version.
        """
        return SyncExpert(Network(path or "sync"))

    def vectors(self, motion: Motion, sound: Array) -> tuple[Array, Array]:
        """Unit vectors of motion and sound, twice (T - 2 MARGIN, E); T as the shorter of both.

        Args:
            motion: of a tracked face, from the sound's first sample on.
            sound: (hops, N_MELS) from :func:`sound_of`.
        """
        frames = min(len(motion), len(sound) // HOPS_PER_FRAME)
        if frames <= 2 * MARGIN:
            raise InputError(f"{frames} frames are too short for a verdict on sync")
        lips = motion.expression[None, :frames, LIDS:].astype(np.float32)
        seen, said = self._network(lips, sound[None, : frames * HOPS_PER_FRAME])
        return seen[0], said[0]

    def scores(self, motion: Motion, sound: Array) -> SyncScores:
        """Verdict on a whole clip; arguments as :meth:`vectors`."""
        return judged(*self.vectors(motion, sound))


def sound_of(samples: NDArray[np.float32], late: int = 0) -> NDArray[np.float32]:
    """Features (hops, N_MELS) of a recording; whole frames, the last filled up with silence.

    Args:
        samples: (n,) mono 16 kHz.
        late: frames by which the recording is turned round and round, to be out of step.
    """
    frames = -(-len(samples) // SAMPLES_PER_FRAME)
    padded = np.pad(samples, (0, frames * SAMPLES_PER_FRAME - len(samples)))
    made = features(SpeechState.start(), padded.astype(np.float32))[1]
    return np.roll(made, late * HOPS_PER_FRAME, axis=0)


def lag_curve(seen: Array, said: Array) -> dict[int, float]:
    """Mean product by lag: of motion with the sound so many frames before it."""
    alike = seen @ said.T
    most = min(REACH, len(alike) - _FEWEST)
    # Row: motion, column: sound. Motion that is late by k meets the sound k columns to the left.
    return {k: float(np.diagonal(alike, -k).mean()) for k in range(-most, most + 1)}


def judged(seen: Array, said: Array) -> SyncScores:
    """Scores of vectors (T, E) of motion and sound."""
    curve = lag_curve(seen, said)
    if not curve:
        raise InputError(f"{len(seen)} answers are too few for a verdict on sync")
    away = {k: float(np.sqrt(max(2 - 2 * v, 0.0))) for k, v in curve.items()}
    return SyncScores(
        curve[0] - float(np.median(list(curve.values()))),
        away[0] - float(np.median(list(away.values()))),
        float(max(curve, key=lambda k: curve[k])),
    )


def trial_windows(seen: Array, said: Array) -> Iterator[tuple[float, float]]:
    """How the expert does on a clip whose lag is known to be 0, window by window.

    Yields:
        For every window of :data:`WINDOW` frames (a shorter clip is one window): the share of lags
        beyond :data:`APART` that score less than lag 0, and 1 where the best of all lags lies
        within two frames of 0, else 0.
    """
    alike = seen @ said.T
    count = len(alike)
    size = min(WINDOW - 2 * MARGIN, count)
    for start in range(0, count - size + 1, WINDOW // 2):
        rows = alike[start : start + size]
        curve = {}
        for lag in range(-REACH, REACH + 1):
            # Sound beyond the clip's ends is missing: the lags near its length rest on less.
            columns = np.arange(start, start + size) - lag
            there = (columns >= 0) & (columns < count)
            if there.sum() >= _FEWEST:
                curve[lag] = float(rows[np.flatnonzero(there), columns[there]].mean())
        wrong = [v for k, v in curve.items() if abs(k) >= APART]
        if wrong:
            best = max(curve, key=lambda k: curve[k])
            yield float(np.mean(np.array(wrong) < curve[0])), float(abs(best) <= 2)


def accuracy(clips: Iterable[tuple[Array, Array]]) -> dict[str, float]:
    """The expert's own accuracy over clips in step: ``accuracy``, ``found``, ``windows``."""
    trials = [trial for seen, said in clips for trial in trial_windows(seen, said)]
    if not trials:
        return {}
    right, found = np.mean(trials, axis=0)
    return {"accuracy": float(right), "found": float(found), "windows": float(len(trials))}
