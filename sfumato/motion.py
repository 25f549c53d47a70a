"""From sound to motion: lips, face, head, eyes and breath, frame by frame, for any length.

A network hears a fixed window of speech features around each frame (``look_ahead`` frames of it
lie in the future: that is the whole delay) and says what the face does; :mod:`sfumato.life` adds
what a living head does besides. Every frame is computed alone and from the same window, so the
sound may arrive in any pieces, and memory does not grow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato import life
from sfumato.controls import MotionOptions, Timeline
from sfumato.engine import Network
from sfumato.errors import InputError
from sfumato.latent import Motion, MotionFrame
from sfumato.speech import HOPS_PER_FRAME, N_MELS, SILENT_FEATURE, SpeechState, features
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, frames_for

Array = NDArray[np.float32]
Options = MotionOptions | Timeline

FORMAT_VERSION = 1
# Lips follow the network by at least this much where no voice is heard (a song's voice may hide).
_LEAST_GATE = 0.35


class MotionGenerator:
    """The motion network with its statistics. Holds no state: share one between streams.

    Attributes:
        latency_frames: frames of sound after a frame that must be heard before it is made.
    """

    def __init__(self, network: Network) -> None:
        facts = network.metadata
        if facts.get("format_version") != str(FORMAT_VERSION):
            raise InputError("the motion network is of another version: train or install it anew")
        self._network = network
        self.latency_frames = int(facts["look_ahead"])
        self.window_hops = int(facts["window_hops"])
        self.stats = life.LifeStats(**json.loads(facts["life"]))
        self.brows, self.lids_down, self.shut = (
            np.asarray(part, np.float32)
            for part in (self.stats.brows, self.stats.lids_down, self.stats.shut)
        )

    @staticmethod
    @lru_cache(maxsize=2)
    def load(path: Path | None = None) -> MotionGenerator:
        """The shipped network, or one from an ONNX file.

        Raises:
            InputError: Not a motion network of this version.
        """
        return MotionGenerator(Network(path or "motion"))

    def face(self, window: Array) -> tuple[Array, float]:
        """Expression (n,) and probability of voice of one window of features."""
        motion, voice = self._network(window[None])
        return motion[0, 0], float(voice[0, 0])


@dataclass(frozen=True)
class MotionState:
    """All that a stream remembers; its size is fixed.

    Attributes:
        speech: state of the features.
        window: features not yet used up, fewer than a window and a frame.
        samples: sound heard so far, frames made so far.
        gate: how awake the lips are, 0 to 1.
        life: state of the head, eyes, lids, breath.
    """

    speech: SpeechState
    window: Array
    samples: int = 0
    frames: int = 0
    gate: float = 0.0
    life: life.LifeState = field(default_factory=life.LifeState)

    @staticmethod
    def start(generator: MotionGenerator) -> MotionState:
        """Before the first sample: as if after long silence."""
        past = generator.window_hops - (generator.latency_frames + 1) * HOPS_PER_FRAME
        return MotionState(SpeechState.start(), np.full((past, N_MELS), SILENT_FEATURE, np.float32))


class MotionStream:
    """Sound in, motion out.

    Args:
        generator: shared network.
        seed: of everything that chance decides; the same seed repeats the same motion.
        options: constant, or a timeline that begins with the first sample.
    """

    def __init__(
        self, generator: MotionGenerator, seed: int = 0, options: Options | None = None
    ) -> None:
        self.generator, self.seed = generator, seed
        self.options: Options = options or MotionOptions()
        self.state = MotionState.start(generator)

    @property
    def latency_frames(self) -> int:
        """As the generator's."""
        return self.generator.latency_frames

    def push(self, samples: NDArray[np.floating]) -> Motion:
        """Hears (n,) samples, mono at 16 kHz, any n; returns the frames that became ready."""
        made = []
        for start in range(0, len(samples), SAMPLE_RATE):
            self._hear(np.asarray(samples[start : start + SAMPLE_RATE], np.float32))
            while len(self.state.window) >= self.generator.window_hops:
                self.state, frame = _frame(self.generator, self.options, self.seed, self.state)
                made.append(frame)
        return _sequence(made)

    def _hear(self, samples: Array) -> None:
        speech, new = features(self.state.speech, samples)
        self.state = replace(
            self.state,
            speech=speech,
            window=np.concatenate([self.state.window, new]),
            samples=self.state.samples + len(samples),
        )

    def flush(self) -> Motion:
        """The last frames, as if silence followed; together ``ceil(samples / 640)`` came out.

        The stream is at its end then: for other sound make a new one.
        """
        heard, total = self.state.samples, frames_for(self.state.samples)
        done = self.state.frames
        silence = (total + self.latency_frames) * SAMPLES_PER_FRAME - heard
        return self.push(np.zeros(silence, np.float32))[: total - done]


def _frame(
    generator: MotionGenerator, options: Options, seed: int, state: MotionState
) -> tuple[MotionState, MotionFrame]:
    """Makes the next frame from a full window."""
    face, voice = generator.face(state.window[: generator.window_hops])
    heard = state.window[_current(generator)]
    target = float(np.clip((voice - 0.1) / 0.4, 0.0, 1.0))
    gate = state.gate + (0.6 if target > state.gate else 0.12) * (target - state.gate)
    alive, shown = life.step(generator.stats, state.life, seed, voice, float(heard.mean()))
    face = face * (_LEAST_GATE + (1.0 - _LEAST_GATE) * gate)
    frame = _compose(generator, options.at(state.frames / FPS), face, shown)
    window = state.window[HOPS_PER_FRAME:]
    return replace(state, window=window, frames=state.frames + 1, gate=gate, life=alive), frame


def _current(generator: MotionGenerator) -> slice:
    """The hops of the window that belong to the frame itself."""
    last = generator.window_hops - generator.latency_frames * HOPS_PER_FRAME
    return slice(last - HOPS_PER_FRAME, last)


def _compose(
    generator: MotionGenerator, options: MotionOptions, face: Array, shown: life.Life
) -> MotionFrame:
    """Face and life together."""
    gaze = shown.gaze + np.asarray(options.gaze, np.float32)
    expression = options.expressiveness * (face + shown.brow * generator.brows)
    expression = expression + (1.0 - shown.lids) * gaze[1] * generator.lids_down
    expression = expression + shown.lids * generator.shut
    pose = options.head * shown.pose
    pose[5] -= np.log(options.distance)  # nearer is larger
    return MotionFrame(pose, expression, gaze, shown.breath)


def _sequence(frames: list[MotionFrame]) -> Motion:
    """The frames as one motion."""
    if not frames:
        return Motion.zeros(0)
    return Motion(
        np.array([f.pose for f in frames], np.float32),
        np.array([f.expression for f in frames], np.float32),
        np.array([f.gaze for f in frames], np.float32),
        np.array([f.breath for f in frames], np.float32),
    )
