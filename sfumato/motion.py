"""From sound to motion: lips, face, head, eyes and breath, frame by frame, for any length.

The speech encoder hears a frame and ``latency_frames`` after it (that is the whole delay), the
generator draws what the face does, the options say where it looks, how near it is and how it feels.
Every frame is made alone, from the state before it and from chance that depends on the seed and its
number only, so the sound may arrive in any pieces, and memory does not grow.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato import emotions, life
from sfumato.controls import MotionOptions, Timeline, check_seed
from sfumato.generator import FACE, Drawn, Generator, GeneratorState
from sfumato.hearing import SpeechEncoder
from sfumato.interior import MOST
from sfumato.motionfile import N_EXPRESSION, Motion, MotionFrame
from sfumato.speech import HOPS_PER_FRAME, N_MELS, SILENT_FEATURE, SpeechState, features
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, frames_for

Array = NDArray[np.float32]
Options = MotionOptions | Timeline

_FADE = 4  # frames in which a face that was interrupted comes to rest
# What sound lets expect between the lips varies less than what is seen there; teeth and tongue that
# move as far as people's are worth being wrong at times.
_SHOWN = np.float32(1.5)
_CHEST = (0.004, -0.006)  # pitch in radians and rise in face units of a full breath


class MotionGenerator:
    """Speech encoder and generator together. Holds no state: share one between streams.

    Attributes:
        latency_frames: frames of sound after a frame that must be heard before it is made.
    """

    def __init__(self, encoder: SpeechEncoder, generator: Generator) -> None:
        self.encoder, self.generator = encoder, generator
        self.latency_frames = encoder.look_ahead

    @staticmethod
    @lru_cache(maxsize=2)
    def load(folder: Path | None = None) -> MotionGenerator:
        """The shipped networks, or ``speech.onnx`` and ``motion.onnx`` of a folder.

        Raises:
            InputError: Not networks of this version.
        """
        speech, motion = (folder / f"{n}.onnx" if folder else None for n in ("speech", "motion"))
        return MotionGenerator(SpeechEncoder.load(speech), Generator.load(motion))


@dataclass(frozen=True)
class MotionState:
    """All that a stream remembers; its size is fixed.

    Attributes:
        speech: state of the features.
        hops: features of the frame that is not complete yet.
        encoder: state of the speech encoder.
        generator: state of the generator.
        samples: sound heard so far; heard: whole frames of it; frames: made so far.
        breath: phase.
        shown: (38,) the last face, without lids; fading: frames for which it still shows after an
            interruption.
    """

    speech: SpeechState
    hops: Array
    encoder: Array
    generator: GeneratorState
    samples: int = 0
    heard: int = 0
    frames: int = 0
    breath: float = 0.0
    shown: Array = field(default_factory=lambda: np.zeros(N_EXPRESSION - 2, np.float32))
    fading: int = 0

    @staticmethod
    def start(generator: MotionGenerator) -> MotionState:
        """Before the first sample: as if after long silence."""
        return MotionState(
            SpeechState.start(),
            np.zeros((0, N_MELS), np.float32),
            generator.encoder.start(),
            generator.generator.start(),
        )


class MotionStream:
    """Sound in, motion out.

    Args:
        generator: shared networks.
        seed: of everything that chance decides, from 0; the same seed repeats the same motion.
        options: constant, or a timeline that begins with the first sample.

    Raises:
        InputError: A seed below 0.
    """

    def __init__(
        self, generator: MotionGenerator, seed: int = 0, options: Options | None = None
    ) -> None:
        check_seed(seed)
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
            while len(self.state.hops) >= HOPS_PER_FRAME:
                self.state, frame = _step(self.generator, self.options, self.seed, self.state)
                if frame is not None:
                    made.append(frame)
        return _sequence(made)

    def _hear(self, samples: Array) -> None:
        speech, new = features(self.state.speech, samples)
        self.state = replace(
            self.state,
            speech=speech,
            hops=np.concatenate([self.state.hops, new]),
            samples=self.state.samples + len(samples),
        )

    def interrupt(self) -> None:
        """Forgets the sound that is heard but not shown: it becomes silence.

        The face goes over to that within ``_FADE`` frames; head and eyes go on.
        """
        state = self.state
        quiet = replace(state.speech, samples=np.zeros_like(state.speech.samples))
        self.state = replace(
            state,
            speech=quiet,
            hops=np.full_like(state.hops, SILENT_FEATURE),
            encoder=self.generator.encoder.start(),
            fading=_FADE,
        )

    def flush(self) -> Motion:
        """The last frames, as if silence followed; together ``ceil(samples / 640)`` came out.

        The stream is at its end then: for other sound make a new one.
        """
        heard, total = self.state.samples, frames_for(self.state.samples)
        done = self.state.frames
        silence = (total + self.latency_frames) * SAMPLES_PER_FRAME - heard
        return self.push(np.zeros(silence, np.float32))[: total - done]


def _step(
    networks: MotionGenerator, options: Options, seed: int, state: MotionState
) -> tuple[MotionState, MotionFrame | None]:
    """Hears one frame of sound; makes the frame that is now understood, if there is one."""
    frame, rest = state.hops[:HOPS_PER_FRAME], state.hops[HOPS_PER_FRAME:]
    encoder, heard = networks.encoder.hear(state.encoder, frame)
    if state.heard < networks.latency_frames:
        return replace(state, hops=rest, encoder=encoder, heard=state.heard + 1), None
    rng = np.random.default_rng((seed, state.frames))
    generator, drawn = networks.generator.draw(state.generator, heard.told, rng)
    breath = life.breathe(state.breath, float(rng.standard_normal()))
    fading = max(state.fading - 1, 0)
    face = drawn.face + (state.shown - drawn.face) * np.float32(fading / max(state.fading, 1))
    drawn = replace(drawn, face=face.astype(np.float32))
    made = _compose(networks.generator, options.at(state.frames / FPS), drawn, life.chest(breath))
    made = replace(made, interior=np.clip(_SHOWN * heard.interior, -MOST, MOST))
    state = replace(
        state,
        hops=rest,
        encoder=encoder,
        heard=state.heard + 1,
        generator=generator,
        frames=state.frames + 1,
        breath=breath,
        shown=drawn.face,
        fading=fading,
    )
    return state, made


def _compose(
    generator: Generator, options: MotionOptions, drawn: Drawn, chest: float
) -> MotionFrame:
    """What was drawn, as the options want it."""
    pose = drawn.pose.copy()
    pose[1] += _CHEST[0] * chest
    pose[4] += _CHEST[1] * chest
    pose = (options.head * pose).astype(np.float32)
    pose[5] -= np.log(options.distance)  # nearer is larger
    gaze = (drawn.gaze + np.asarray(options.gaze, np.float32)).astype(np.float32)
    expression = np.zeros(N_EXPRESSION, np.float32)
    expression[FACE] = options.expressiveness * drawn.face
    expression += (1.0 - drawn.lids) * gaze[1] * generator.lids_down
    expression += drawn.lids * generator.shut_lids
    expression += emotions.offset(options.emotion, drawn.lids)
    return MotionFrame(pose, expression, gaze, chest)


def _sequence(frames: list[MotionFrame]) -> Motion:
    """The frames as one motion."""
    if not frames:
        return Motion.zeros(0)
    return Motion(*(np.array([getattr(f, g.name) for f in frames]) for g in fields(Motion)))
