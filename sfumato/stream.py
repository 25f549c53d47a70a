"""Sound in, frames out, as it is spoken: the one path that files and live use share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from sfumato.crew import Crew
from sfumato.media.audio import clean
from sfumato.motion import MotionGenerator, MotionStream, Options
from sfumato.motionfile import Motion, MotionFrame
from sfumato.render.renderer import Renderer
from sfumato.timebase import FPS, SAMPLES_PER_FRAME

Image = NDArray[np.uint8]
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Cue:
    """A frame that can be drawn.

    Attributes:
        index: its number.
        moment: its motion.
        samples: (640,) float32 of its sound in [-1, 1]; silence where there is none.
        renderer: draws it.
    """

    index: int
    moment: MotionFrame
    samples: Samples
    renderer: Renderer


@dataclass(frozen=True)
class Frame:
    """One picture and the sound that belongs to it, so that the two cannot drift apart.

    Attributes:
        index: number of the frame; it is shown from ``index / FPS`` seconds on.
        image: (S, S, 3) uint8 RGB.
        samples: (640,) float32 of the recording in [-1, 1]; silence where there is none.
    """

    index: int
    image: Image
    samples: Samples


class Stream:
    """Drives one portrait with sound of any length; memory stays the same.

    Args:
        renderer: draws the portrait.
        generator: makes motion from sound.
        seed: the same seed and sound give the same frames.
        crew: draws the frames; None: this thread alone, one after the other.

    Attributes:
        renderer: draws the frames that are still to come; another portrait may take over.
    """

    def __init__(
        self,
        renderer: Renderer,
        generator: MotionGenerator,
        seed: int = 0,
        options: Options | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.renderer = renderer
        self._crew = crew or Crew()
        self._motion = MotionStream(generator, seed, options)
        self._pending = np.zeros(0, np.float32)
        self._count = 0

    @property
    def lanes(self) -> int:
        """Frames that can be drawn at a time without one holding up the other."""
        return min(2, self._crew.threads)

    @property
    def latency_frames(self) -> int:
        """Frames of sound that must be heard after a frame's own before it can be drawn."""
        return self._motion.latency_frames

    @property
    def seconds(self) -> float:
        """Time of the next frame, on the clock of a :class:`~sfumato.controls.Timeline`."""
        return self._count / FPS

    @property
    def options(self) -> Options:
        """How the frames that are still to come shall move; may be set at any time."""
        return self._motion.options

    @options.setter
    def options(self, options: Options) -> None:
        self._motion.options = options

    def push(self, samples: Samples) -> list[Frame]:
        """Frames that became ready with these samples, drawn.

        Args:
            samples: (n,) float32 mono at 16 kHz in [-1, 1]; any n. How the sound is cut does not
                change the frames. What lies outside is clipped, what is no number is silence.
        """
        cues = self.hear(samples)
        if len(cues) == 1:
            return [self.draw(cues[0])]
        return list(self._drawn(cues))

    def hear(self, samples: Samples) -> list[Cue]:
        """The same frames, to be drawn by whoever wants to see them, see :meth:`draw`."""
        return list(self._cues(self._heard([samples])))

    def draw(self, cue: Cue, *, plain: bool = False) -> Frame:
        """A frame that comes alone; several threads may draw one each.

        Args:
            plain: see :meth:`~sfumato.render.renderer.Renderer.render`.
        """
        image = self._crew.draw_one(cue.renderer, cue.moment, plain=plain)
        return Frame(cue.index, image, cue.samples)

    def interrupt(self) -> None:
        """Drop the sound that was heard but not shown yet; the lips come to rest within 0.2 s.

        Frames keep their numbers: those whose sound is dropped are silent.
        """
        self._motion.interrupt()
        self._pending = np.zeros_like(self._pending)

    def flush(self) -> list[Frame]:
        """The remaining frames at the end of the sound; the last one is filled up with silence."""
        return list(self._drawn(self._cues(self._rest())))

    def run(self, sound: Iterable[Samples]) -> Iterator[Frame]:
        """All frames of a whole recording; some are drawn ahead."""
        yield from self._drawn(self._cues(chain(self._heard(sound), self._rest())))

    def _heard(self, sound: Iterable[Samples]) -> Iterator[Motion]:
        for samples in map(clean, sound):
            self._pending = np.concatenate([self._pending, samples])
            yield self._motion.push(samples)

    def _rest(self) -> Iterator[Motion]:
        yield self._motion.flush()

    def _cues(self, parts: Iterable[Motion]) -> Iterator[Cue]:
        for part in parts:
            for number in range(len(part)):
                own = self._pending[:SAMPLES_PER_FRAME]
                self._pending = self._pending[SAMPLES_PER_FRAME:]
                samples = np.pad(own, (0, SAMPLES_PER_FRAME - len(own)))
                self._count += 1
                yield Cue(self._count - 1, part[number], samples, self.renderer)

    def _drawn(self, cues: Iterable[Cue]) -> Iterator[Frame]:
        told: deque[Cue] = deque()

        def moments() -> Iterator[MotionFrame]:
            for cue in cues:
                told.append(cue)
                yield cue.moment

        for image in self._crew.draw(self.renderer, moments()):
            cue = told.popleft()
            yield Frame(cue.index, image, cue.samples)
