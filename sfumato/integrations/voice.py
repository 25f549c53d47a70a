"""What a voice agent says, twice: as it came, for who listens, and at 16 kHz, for the face.

The listeners' sound waits here until the frames that were made of it come out, and leaves in their
measure; so the voice keeps its quality and stays with the lips.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

Pcm = NDArray[np.int16]
Samples = NDArray[np.float32]
Buffer = bytes | bytearray | memoryview

_NEARLY = 100  # a mark does not wait for 1/100 s that may never come: resamplers keep some samples


class Resampler:
    """Mono sound of one rate into another, piece by piece.

    Args:
        source: samples a second that come.
        target: samples a second that are wanted.
    """

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._filter = AudioResampler("s16", "mono", target)

    def push(self, pcm: Pcm) -> Pcm:
        """(n,) int16 at the source's rate; what it makes at the target's, a moment kept back."""
        if self._source == self._target or not len(pcm):
            return pcm
        frame = AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = self._source
        return _joined(self._filter.resample(frame))

    def flush(self) -> Pcm:
        """What was kept back, at the end of the sound; what comes then is another."""
        rest = _joined(self._filter.resample(None)) if self._source != self._target else _NOTHING
        self._filter = AudioResampler("s16", "mono", self._target)
        return rest


@dataclass
class Cut:
    """A piece of the listeners' sound.

    Attributes:
        pcm: (n,) int16 mono, empty in silence.
        origin: whatever was said to be its origin when it was pushed.
        marks: what was marked in or right behind this sound, in order.
    """

    pcm: Pcm = field(default_factory=lambda: np.zeros(0, np.int16))
    origin: Any = None
    marks: list[Any] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether there is anything in it."""
        return bool(len(self.pcm) or self.marks)


@dataclass
class _Segment:
    """A sentence or more that waits: what is left of its sound, and marks by their place in it."""

    origin: Any
    sound: bytearray = field(default_factory=bytearray)
    heard: int = 0  # samples at 16 kHz that frames were made of
    taken: int = 0  # of the listeners' samples
    pushed: int = 0
    closed: bool = False
    marks: deque[tuple[int, Any]] = field(default_factory=deque)


class Voice:
    """Sound that waits for its frames, in segments.

    Args:
        rate: samples a second that the listeners get; mono.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._segments: deque[_Segment] = deque()
        self._source = rate
        self._outward = Resampler(rate, rate)
        self._inward = Resampler(rate, SAMPLE_RATE)

    @property
    def origins(self) -> list[Any]:
        """The origins of the segments that wait, or are being spoken."""
        return [segment.origin for segment in self._segments]

    @property
    def open(self) -> bool:
        """Whether more of the last segment may come."""
        return bool(self._segments) and not self._segments[-1].closed

    def push(self, data: Buffer, rate: int, channels: int, origin: Any = None) -> Samples:
        """Add sound to the segment that is open, or begin one.

        Args:
            data: int16 samples, interleaved.
            rate: samples a second, any.
            channels: how many; they are mixed into one.
            origin: kept with the segment's sound.

        Returns:
            (n,) float32 at 16 kHz for the face.
        """
        pcm = np.frombuffer(data, np.int16)
        if not len(pcm):
            return _floats(pcm)
        if channels > 1:
            pcm = pcm.reshape(-1, channels).mean(axis=1).astype(np.int16)
        if not self.open:
            self._segments.append(_Segment(origin))
        if rate != self._source:  # what the other resampler kept is a millisecond at most
            self._source, self._outward = rate, Resampler(rate, self.rate)
        return self._add(self._outward.push(pcm))

    def end(self) -> Samples:
        """Close the segment that is open; returns the last of its sound for the face."""
        rest = self._add(self._outward.flush())
        last = self._inward.flush()
        self._segments[-1].closed = True
        return np.concatenate([rest, _floats(last)])

    def mark(self, thing: Any) -> bool:
        """Have a thing back when all sound so far is out; False if it is out already."""
        if not self._segments:
            return False
        self._segments[-1].marks.append((self._segments[-1].pushed, thing))
        return True

    def take(self, speech: int, ends: bool) -> Cut:
        """The sound of the next frame.

        Args:
            speech: samples at 16 kHz that the frame was made of.
            ends: it is the last frame of its segment.
        """
        if not self._segments or not (speech or ends):
            return Cut()
        segment = self._segments[0]
        segment.heard += speech
        place = segment.heard * self.rate // SAMPLE_RATE
        place = segment.pushed if ends else min(place, segment.pushed)
        count = 2 * (place - segment.taken)
        pcm = np.frombuffer(bytes(segment.sound[:count]), np.int16)
        del segment.sound[:count]
        segment.taken = place
        nearly = segment.pushed - place < self.rate // _NEARLY and not segment.closed
        due = segment.pushed if nearly else place
        marks = []
        while segment.marks and (ends or segment.marks[0][0] <= due):
            marks.append(segment.marks.popleft()[1])
        if ends:
            self._segments.popleft()
        return Cut(pcm, segment.origin, marks)

    def piece(self) -> tuple[Cut, bool] | None:
        """The next 40 ms without a face, and whether a segment ends there; None: none wait."""
        if not self._segments:
            return None
        segment = self._segments[0]
        size = self.rate // FPS
        waits = segment.pushed - segment.taken
        if waits < size and not segment.closed:
            return None
        ends = segment.closed and waits <= size
        return self.take(SAMPLES_PER_FRAME, ends), ends

    def clear(self) -> list[Cut]:
        """Forget everything; returns what waited."""
        rest = [self.take(0, ends=True) for _ in range(len(self._segments))]
        self._outward.flush()
        self._inward.flush()
        return rest

    def _add(self, pcm: Pcm) -> Samples:
        segment = self._segments[-1]
        segment.sound += pcm.tobytes()
        segment.pushed += len(pcm)
        return _floats(self._inward.push(pcm))


_NOTHING: Pcm = np.zeros(0, np.int16)


def _joined(frames: list[AudioFrame]) -> Pcm:
    parts = [np.asarray(frame.to_ndarray()[0], np.int16) for frame in frames]
    return np.concatenate([_NOTHING, *parts])


def _floats(pcm: Pcm) -> Samples:
    return pcm.astype(np.float32) / np.float32(32768)
