"""Sound on its way into a video: from a file, or along with the pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from sfumato.media.audio import SoundDecoder
from sfumato.timebase import FPS, SAMPLE_RATE

Samples = NDArray[np.float32]

BLOCK = 1024  # samples that AAC packs at a time
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}


class FileSound:
    """All of a recording, in its own rate and channels or the nearest that AAC has.

    Attributes:
        rate: samples a second of the blocks; layout: their channels, by ffmpeg's name.
    """

    def __init__(self, decoder: SoundDecoder) -> None:
        self.rate = next((rate for rate in _RATES if rate >= decoder.rate), _RATES[-1])
        self.layout = _LAYOUTS.get(decoder.channels, "7.1")
        self._blocks = decoder.frames(self.rate, self.layout, "fltp", BLOCK)
        self._next = next(self._blocks, None)

    @property
    def left(self) -> bool:
        """Whether there is more."""
        return self._next is not None

    def due(self, pictures: int) -> Iterator[AudioFrame]:
        """The blocks that start before so many pictures are over."""
        while (block := self._next) is not None:
            if (block.pts or 0) * FPS >= pictures * self.rate:
                return
            self._next = next(self._blocks, None)
            yield block


class PushedSound:
    """Mono 16 kHz that comes with the pictures; one thread pushes, another takes.

    Attributes:
        rate, layout: as in :class:`FileSound`.
    """

    rate = SAMPLE_RATE
    layout = "mono"

    def __init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._taken = 0
        self._ended = False
        self._lock = threading.Lock()

    def push(self, samples: Samples) -> None:
        """Add (n,) float32 in [-1, 1]."""
        with self._lock:
            self._waiting = np.concatenate([self._waiting, samples])

    def end(self) -> None:
        """No more will be pushed: the last block may be shorter."""
        with self._lock:
            self._ended = True

    @property
    def left(self) -> bool:
        """Whether something waits."""
        return len(self._waiting) > 0

    def due(self, pictures: int) -> Iterator[AudioFrame]:
        """The blocks that are whole: of sound that comes with the pictures none is early."""
        del pictures
        while (block := self._cut()) is not None:
            yield block

    def _cut(self) -> AudioFrame | None:
        with self._lock:
            samples = self._waiting[:BLOCK]
            if len(samples) < BLOCK and not (self._ended and len(samples)):
                return None
            self._waiting = self._waiting[BLOCK:]
        block = AudioFrame.from_ndarray(samples[None], format="fltp", layout=self.layout)
        block.sample_rate, block.time_base = self.rate, Fraction(1, self.rate)
        block.pts = self._taken
        self._taken += len(samples)
        return block
