"""Sound that waits to be spoken, and when its next 40 ms are taken.

Sound comes in two ways. What is heard **as it happens** (a microphone) is its own clock: a frame is
taken the moment its last sample is there. What was **made beforehand** (a voice agent's sentence)
arrives faster than it is spoken: frames are taken at an even rate. Where nothing waits, silence is
taken, so that the face goes on living. Both kinds may wait at a time, in the order in which they
came; only a microphone's sound gets too old to be spoken.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

Samples = NDArray[np.float32]
Clock = Callable[[], float]

PERIOD = 1 / FPS
GRACE = PERIOD  # how long a frame waits for sound that is late, before silence takes its place
MOST_BEHIND = 0.3  # seconds of a microphone's sound that may wait; what is older is left out
_CRUMB = SAMPLES_PER_FRAME // 8  # fewer samples at a time are put together
_MOST_ENDS = 1000  # of segments that wait to be told


@dataclass(frozen=True)
class Piece:
    """The sound of one frame.

    Attributes:
        samples: (640,) float32; silence after ``speech``.
        speech: how many of them were pushed; 0 is silence of our own.
        ends: the segment ends with this frame.
        pushed: when the last of them came, on the inbox' clock; None for silence.
        epoch: that of the inbox when they were taken; once it moved on, nobody wants them.
    """

    samples: Samples
    speech: int = 0
    ends: bool = False
    pushed: float | None = None
    epoch: int = 0


@dataclass
class _Chunk:
    """Samples as they were pushed, what is left of them; a mark of a segment's end has none."""

    samples: Samples
    pushed: float
    realtime: bool = False
    ends: bool = False


class Inbox:
    """Thread-safe: one side pushes, the other takes a piece for every frame."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.skipped = 0  # samples of a microphone that were left out
        self.epoch = 0  # moves on with every clear
        self._chunks: deque[_Chunk] = deque()
        self._waiting = 0
        self._live = 0  # of these, samples of a microphone
        self._ends = 0  # of segments that wait
        self._speaking = False
        self._closed = False
        self._due = clock()
        self._changed = threading.Condition()

    @property
    def seconds(self) -> float:
        """Sound that waits."""
        return self._waiting / SAMPLE_RATE

    def push(self, samples: Samples, *, realtime: bool) -> None:
        """Add a copy of (n,) float32 samples: callers fill their buffer anew.

        Raises:
            InputError: They have more than one axis.
        """
        if np.ndim(samples) != 1:
            raise InputError(
                f"samples of shape {np.shape(samples)}: give (n,), mono, such as x[:, 0]"
            )
        with self._changed:
            if len(samples):
                self._add(np.array(samples, np.float32), realtime)
            if self._live > MOST_BEHIND * SAMPLE_RATE:
                self.skipped += self._drop(self._live - SAMPLES_PER_FRAME)
            self._changed.notify()

    def end(self) -> None:
        """The segment ends with the samples pushed so far."""
        with self._changed:
            if self._ends < _MOST_ENDS:
                self._ends += 1
                self._chunks.append(_Chunk(np.zeros(0, np.float32), self.clock(), ends=True))
            self._changed.notify()

    def clear(self) -> None:
        """Forget what waits."""
        with self._changed:
            self._chunks.clear()
            self._waiting = self._live = 0
            self._ends = 0
            self._speaking = False
            self.epoch += 1

    def close(self) -> None:
        """Wakes who waits in :meth:`take`; it gets None."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def restart(self) -> None:
        """The next frame is due now: after a pause of the taker, no time is made up for."""
        self._due = self.clock()

    def take(self) -> Piece | None:
        """The sound of the next frame, when it is time for it; None once closed."""
        with self._changed:
            while not self._closed:
                now = self.clock()
                ready, even = self._ready()
                if now >= ready:
                    # Even steps from where it was due; from now on where that is too long ago.
                    self._due = PERIOD + (ready if even and now < ready + PERIOD else now)
                    return self._cut()
                self._changed.wait(ready - now)
        return None

    def _add(self, samples: Samples, realtime: bool) -> None:
        """At the end; the caller holds the lock."""
        last = self._chunks[-1] if self._chunks else None
        crumb = len(samples) < _CRUMB and last is not None and len(last.samples) < SAMPLES_PER_FRAME
        if last is not None and crumb and not last.ends:  # minutes of crumbs are a gigabyte
            if last.realtime and not realtime:  # what was made beforehand is never left out
                last.realtime = False
                self._live -= len(last.samples)
            last.samples, last.pushed = np.concatenate([last.samples, samples]), self.clock()
        else:
            last = _Chunk(samples, self.clock(), realtime)
            self._chunks.append(last)
        self._waiting += len(samples)
        self._live += len(samples) * last.realtime

    def _ready(self) -> tuple[float, bool]:
        """When the next frame may be taken, as things are; whether it keeps an even step."""
        whole = self._waiting >= SAMPLES_PER_FRAME or self._ends > 0
        if whole and (self._chunks[0].realtime or not self._speaking):
            # A microphone is its own clock, and who begins to speak is not kept waiting.
            return self._chunks[0].pushed, False
        late = not whole and (self._waiting > 0 or self._speaking)
        return self._due + (GRACE if late else 0.0), True

    def _cut(self) -> Piece:
        """The next frame's sound; the caller holds the lock."""
        parts, left, pushed = [], SAMPLES_PER_FRAME, None
        while left > 0 and self._chunks and not self._chunks[0].ends:
            chunk = self._chunks[0]
            part, chunk.samples = chunk.samples[:left], chunk.samples[left:]
            parts.append(part)
            left -= len(part)
            self._live -= len(part) * chunk.realtime
            pushed = chunk.pushed
            if not len(chunk.samples):
                self._chunks.popleft()
        ends = bool(self._chunks) and self._chunks[0].ends
        if ends:
            self._chunks.popleft()
            self._ends -= 1
        speech = SAMPLES_PER_FRAME - left
        self._waiting -= speech
        self._speaking = speech > 0 and not ends
        samples = np.concatenate([*parts, np.zeros(left, np.float32)])
        return Piece(samples, speech, ends, pushed, self.epoch)

    def _drop(self, count: int) -> int:
        """Forget a microphone's oldest samples; returns how many. Marks of ends stay."""
        kept: deque[_Chunk] = deque()
        left = count
        for chunk in self._chunks:
            if chunk.realtime and left > 0:
                part = min(left, len(chunk.samples))
                chunk.samples = chunk.samples[part:]
                left -= part
            if len(chunk.samples) or chunk.ends:
                kept.append(chunk)
        self._chunks = kept
        self._waiting -= count - left
        self._live -= count - left
        return count - left
