"""A clip's sound spoken by a portrait of the same person, tracked again like the clip itself."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.avatar import Studio
from sfumato.corpus import ClipInfo
from sfumato.errors import InputError
from sfumato.eval.motion_lips import Lips, lip_series
from sfumato.eval.sync import sound_of
from sfumato.generator import Drawn, Generator, GeneratorState
from sfumato.geometry import topology
from sfumato.interior import InteriorAxes, look
from sfumato.latent import Motion
from sfumato.media.audio import AudioReader
from sfumato.media.video import VideoReader
from sfumato.motion import MotionGenerator, MotionStream
from sfumato.timebase import FPS, SAMPLES_PER_FRAME

Image = NDArray[np.uint8]
Array = NDArray[np.floating]
Samples = NDArray[np.float32]
Array32 = NDArray[np.float32]
Speak = Callable[[Samples, int], Motion]

SECONDS = 6  # of a clip that are rendered at most
MOUTH = (96, 72)  # pixels of the cut-out mouths
_FEWEST = 26  # frames


@dataclass(frozen=True)
class Take:
    """One video as our tracker saw it.

    Attributes:
        tracks: (T, 478, 3) pixels, gaps as NaN.
        motion: T frames, fitted to the tracks.
        mouths: T pictures (72, 96, 3) uint8 of the mouth, if they were asked for.
    """

    tracks: Array
    motion: Motion
    mouths: list[Image]

    @property
    def lips(self) -> Lips:
        """Opening and width (T,) in outer-eye distances."""
        return lip_series(self.tracks)


@dataclass(frozen=True)
class Scene:
    """A clip and what was made of its sound.

    Attributes:
        name, group, person: of the clip.
        lag: frames by which the lips of the clip's source come later than its sound.
        samples: the sound.
        sound: features (hops, N_MELS) of it.
        real: the clip.
        spoken: motion from the sound, by side (``made``, ``baseline``).
        takes: that motion rendered and tracked again, by side; empty where only motion is judged.
    """

    name: str
    group: str
    person: str
    lag: float
    samples: Samples
    sound: Array
    real: Take
    spoken: dict[str, Motion]
    takes: dict[str, Take]

    @property
    def late(self) -> int:
        """Whole frames of :attr:`lag`."""
        return round(self.lag)

    @property
    def lips(self) -> Lips:
        """Those of the clip as they would be in step with its sound, to a frame; ends are held."""
        opening, width = self.real.lips
        where = self._in_step
        return opening[where], width[where]

    @property
    def interior(self) -> Array:
        """What is seen between the clip's lips (T, 3), in step as well."""
        return self.real.motion.interior[self._in_step]

    @property
    def _in_step(self) -> NDArray[np.int64]:
        count = len(self.real.motion)
        return np.clip(np.arange(count) + self.late, 0, count - 1)


class Regression(Generator):
    """The face that the sound lets expect and nothing else: no chance, head and eyes still."""

    def draw(
        self, state: GeneratorState, heard: Array32, rng: np.random.Generator
    ) -> tuple[GeneratorState, Drawn]:
        """As :meth:`Generator.draw`."""
        nothing = np.zeros_like(state.own)
        face = self.face(heard, nothing, nothing)
        return state, Drawn(np.zeros(6, np.float32), face, np.zeros(2, np.float32), 0.0)


def regression(generator: MotionGenerator) -> MotionGenerator:
    """The same networks without the generator's own motion."""
    return MotionGenerator(generator.encoder, Regression(generator.generator.network))


def speaker(generator: MotionGenerator) -> Speak:
    """Sound and seed to the generator's motion."""

    def speak(samples: Samples, seed: int = 0) -> Motion:
        stream = MotionStream(generator, seed)
        return Motion.concat([stream.push(samples), stream.flush()])

    return speak


def read_scene(
    studio: Studio,
    info: ClipInfo,
    group: str,
    speakers: dict[str, Speak],
    render: bool = True,
    mouths: bool = False,
) -> Scene:
    """Track a clip, speak its sound and, with ``render``, draw that and track it again.

    The portrait is the frame of the clip whose lips are most nearly closed.

    Raises:
        InputError: No sound, or the clip is too short.
        NoFaceError: No face in it.
    """
    with VideoReader(info.path) as reader:
        frames = list(islice(reader, SECONDS * FPS))
    with AudioReader(info.path) as sound:
        samples = np.concatenate(list(sound))[: len(frames) * SAMPLES_PER_FRAME]
    count = min(len(frames), len(samples) // SAMPLES_PER_FRAME)
    if count < _FEWEST:
        raise InputError(f"{info.path}: {count} frames with sound; {_FEWEST} are needed")
    frames, samples = frames[:count], samples[: count * SAMPLES_PER_FRAME]
    real = watch(studio, frames, mouths)
    seed = zlib.crc32(info.name.encode())  # with one seed for all, blinks fall on the same frames
    spoken = {side: speak(samples, seed) for side, speak in speakers.items()}
    takes = {}
    if render:
        good = np.isfinite(real.tracks[:, 0, 0])
        still = frames[int(np.argmin(np.where(good, real.lips[0], np.inf)))]
        renderer = studio.avatar(still).renderer
        for side, motion in spoken.items():
            moments = (motion[number] for number in range(count))
            takes[side] = watch(studio, studio.crew.draw(renderer, moments), mouths)
    heard = sound_of(samples)
    return Scene(info.name, group, info.person, info.lag, samples, heard, real, spoken, takes)


def watch(studio: Studio, pictures: Iterable[Image], mouths: bool = False) -> Take:
    """Track pictures with the product's own face encoder.

    Raises:
        NoFaceError: None of them shows a face.
    """
    kept: list[Image] = []

    def shown() -> Iterable[Image]:
        for picture in pictures:
            kept.append(picture)
            yield picture

    tracks, looks, cut = [], [], []
    for landmarks in studio.encoder.follow(shown()):
        tracks.append(landmarks)
        picture = kept.pop()
        looks.append(look(picture, landmarks))
        if mouths:
            cut.append(mouth_of(picture, landmarks))
    points = np.array(tracks)
    motion = studio.basis.fit_clip(points)[1]
    return Take(points, replace(motion, interior=InteriorAxes.load().codes(looks)), cut)


def mouth_of(picture: Image, landmarks: Array) -> Image:
    """The mouth of a picture (72, 96, 3), upright, 1.1 eye distances wide; black without a face."""
    width, height = MOUTH
    if not np.isfinite(landmarks).all():
        return np.zeros((height, width, 3), np.uint8)
    left, right = landmarks[list(topology.OUTER_CORNERS), :2]
    across = right - left
    zoom = width / (1.1 * float(np.linalg.norm(across)))
    turn = float(np.arctan2(across[1], across[0]))
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    rows = np.array([[cos, sin], [-sin, cos]])
    # It hangs on the eyes' middle and the nose, so that a falling jaw does not move the picture.
    down = np.array([-across[1], across[0]])
    centre = (left + right) / 2 + 0.82 * down
    shift = np.array([width / 2, height / 2]) - rows @ centre
    return np.asarray(cv2.warpAffine(picture, np.c_[rows, shift], MOUTH), np.uint8)


def later(motion: Motion, frames: float) -> Motion:
    """Motion whose expression is that of ``frames`` later; the ends are held."""
    last = len(motion) - 1
    where = np.clip(np.arange(len(motion)) + frames, 0, last)
    low = np.minimum(where.astype(int), max(last - 1, 0))
    share = (where - low).astype(np.float32)[:, None]
    here, following = motion.expression[low], motion.expression[np.minimum(low + 1, last)]
    return replace(motion, expression=here * (1 - share) + following * share)
