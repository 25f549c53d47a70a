"""Sound in, frames out, as it is spoken: the one path that files and live use share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.motion import MotionGenerator, MotionOptions, MotionStream
from sfumato.motionfile import Motion
from sfumato.render.renderer import Renderer
from sfumato.timebase import SAMPLES_PER_FRAME

Image = NDArray[np.uint8]
Samples = NDArray[np.float32]


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
    """

    def __init__(
        self,
        renderer: Renderer,
        generator: MotionGenerator,
        seed: int = 0,
        options: MotionOptions | None = None,
    ) -> None:
        self._renderer = renderer
        self._motion = MotionStream(generator, seed, options or MotionOptions())
        self._pending = np.zeros(0, np.float32)
        self._count = 0

    @property
    def latency_frames(self) -> int:
        """Frames of sound that must be heard after a frame's own before it can be drawn."""
        return self._motion.latency_frames

    def push(self, samples: Samples) -> list[Frame]:
        """Frames that became ready with these samples.

        Args:
            samples: (n,) float32 mono at 16 kHz in [-1, 1]; any n. How the sound is cut does not
                change the frames.
        """
        self._pending = np.concatenate([self._pending, np.asarray(samples, np.float32)])
        return self._draw(self._motion.push(samples))

    def flush(self) -> list[Frame]:
        """The remaining frames at the end of the sound; the last one is filled up with silence."""
        return self._draw(self._motion.flush())

    def _draw(self, motion: Motion) -> list[Frame]:
        frames = []
        for number in range(len(motion)):
            own = self._pending[:SAMPLES_PER_FRAME]
            self._pending = self._pending[SAMPLES_PER_FRAME:]
            samples = np.pad(own, (0, SAMPLES_PER_FRAME - len(own)))
            image = self._renderer.render(motion[number]).image
            frames.append(Frame(self._count, image, samples))
            self._count += 1
        return frames
