"""Recordings in: whatever ffmpeg reads, as a stream that never holds more than a moment of it.

Time starts where the file starts: sound that begins later than the pictures beside it is preceded
by silence, and gaps inside are filled, so a sample's index is its time as a player would show it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.media.files import require_file
from sfumato.media.formats import self_contained
from sfumato.timebase import SAMPLE_RATE

Samples = NDArray[np.float32]

_CHUNK = SAMPLE_RATE // 10


class _NoSoundError(InputError):
    """The file can be read and nothing is to be heard in it."""


class SoundDecoder:
    """Frames of one sample format from the first sound track of a file; a context manager.

    Args:
        path: Any audio or video file.

    Attributes:
        rate: Samples a second of the file.
        channels: Number of channels of the file.

    Raises:
        InputError: Missing or unreadable file, no sound track, no sample.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = require_file(path, "recording")
        self._container = _open(self.path)
        try:
            self._stream = _sound_track(self._container, self.path)
            self._raw = self._decoded()
            first = next(self._raw, None)
            if first is None:
                raise _NoSoundError(f"{self.path} holds no sound (0 samples): record it again.")
        except BaseException:
            self._container.close()
            raise
        self._first: AudioFrame = first
        self.rate = first.sample_rate
        self.channels = first.layout.nb_channels

    @property
    def duration(self) -> float | None:
        """Seconds that the file says it lasts, if it says so."""
        container, stream = self._container, self._stream
        if stream.duration is not None and stream.time_base is not None:
            lead = (stream.start_time or 0) * stream.time_base - _origin(container)
            return float(stream.duration * stream.time_base) + max(float(lead), 0.0)
        return container.duration / av.time_base if container.duration else None

    def __enter__(self) -> SoundDecoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._container.close()

    def frames(
        self, rate: int, layout: str, sample_format: str, frame_size: int
    ) -> Iterator[AudioFrame]:
        """All of the sound in another shape. Runs once.

        Args:
            rate: Samples a second.
            layout: Channel layout: "mono", "stereo", "5.1".
            sample_format: ffmpeg's name: "flt" interleaved or "fltp" planar float.
            frame_size: Samples a frame; only the last may be shorter.

        Yields:
            Frames whose ``pts`` counts samples from the start of the file.
        """
        target = _Target(rate, layout, sample_format, frame_size)
        emitted = 0
        graph: Graph | None = None
        shape: tuple[object, ...] = ()
        for frame in self._from_the_start():
            now = (frame.sample_rate, frame.format.name, frame.layout.name, frame.time_base)
            if graph is None or now != shape:  # some radio recordings change in mid-stream
                for done in _drained(graph, end=True):
                    yield target.stamped(done, emitted)
                    emitted += done.samples
                graph, shape = target.graph(frame, emitted), now
            graph.push(frame)
            for done in _drained(graph):
                yield target.stamped(done, emitted)
                emitted += done.samples
        for done in _drained(graph, end=True):
            yield target.stamped(done, emitted)
            emitted += done.samples

    def _from_the_start(self) -> Iterator[AudioFrame]:
        origin = _origin(self._container)
        for frame in itertools.chain([self._first], self._raw):
            if frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(origin / frame.time_base)
            yield frame

    def _decoded(self) -> Iterator[AudioFrame]:
        """Decoded frames; packets that are damaged are left out, as players do."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:  # cut off in the middle of a packet: what came is good
                return
            if packet is None:
                return
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    if isinstance(frame, AudioFrame) and frame.samples:
                        yield frame


@dataclass(frozen=True)
class _Target:
    rate: int
    layout: str
    sample_format: str
    frame_size: int

    def graph(self, frame: AudioFrame, emitted: int) -> Graph:
        """One resampler: rate, channels, silence where time stamps jump, frames of one size."""
        graph = Graph()
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format,
            layout=frame.layout,
            time_base=frame.time_base or Fraction(1, frame.sample_rate),
        )
        # rematrix_maxval: two equal channels mix to the level of one, not 3 dB above full scale.
        resample = graph.add(
            "aresample", f"{self.rate}:async=1:first_pts={emitted}:rematrix_maxval=1.0"
        )
        shape = graph.add(
            "aformat",
            f"sample_fmts={self.sample_format}:sample_rates={self.rate}"
            f":channel_layouts={self.layout}",
        )
        cut = graph.add("asetnsamples", f"n={self.frame_size}:p=0")
        graph.link_nodes(source, resample, shape, cut, graph.add("abuffersink")).configure()
        return graph

    def stamped(self, frame: AudioFrame, start: int) -> AudioFrame:
        """The frame with its place counted in samples."""
        frame.pts, frame.time_base = start, Fraction(1, self.rate)
        return frame


def _drained(graph: Graph | None, end: bool = False) -> Iterator[AudioFrame]:
    """What a graph has ready; at the ``end`` also what it kept."""
    if graph is None:
        return
    if end:
        graph.push(None)
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        if isinstance(frame, AudioFrame):
            yield frame


class AudioReader:
    """A recording as mono 16 kHz in pieces; a context manager. Iterates (n,) float32 in [-1, 1].

    Raises:
        InputError: Missing or unreadable file, no sound track, no sample.
    """

    def __init__(self, path: str | Path) -> None:
        self._decoder = SoundDecoder(path)

    @property
    def duration(self) -> float | None:
        """Seconds that the file says it lasts, if it says so."""
        return self._decoder.duration

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._decoder.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Samples]:
        for frame in self._decoder.frames(SAMPLE_RATE, "mono", "flt", _CHUNK):
            yield clean(frame.to_ndarray().reshape(-1))


def clean(samples: NDArray[np.generic]) -> Samples:
    """Samples (n,) as float32 in [-1, 1], NaN as silence; a copy only where something is wrong.

    Float files and callers may give anything; a network that is fed a NaN never recovers.
    """
    sound: Samples = np.asarray(samples, np.float32)
    # Least and most are NaN where a sample is; that is neither of both.
    if not len(sound) or (sound.min() >= -1.0 and sound.max() <= 1.0):
        return sound
    return np.asarray(np.clip(np.nan_to_num(sound), -1.0, 1.0), np.float32)


def has_sound(path: str | Path) -> bool:
    """Whether a file has a sound track with a sample in it; no more than the first is decoded.

    Raises:
        InputError: Missing or unreadable file, or sound of a kind that cannot be decoded.
    """
    try:
        with AudioReader(path) as reader:
            return next(iter(reader), None) is not None
    except _NoSoundError:
        return False


def _open(path: Path) -> InputContainer:
    try:
        # "file:" so that a colon in a name is no protocol; tags may be in any encoding.
        return av.open(f"file:{path}", metadata_errors="ignore", options=self_contained())
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(
            f"{path} is no sound that can be read, or it is broken: save it as WAV or MP3."
        ) from error


def _sound_track(container: InputContainer, path: Path) -> AudioStream:
    stream = container.streams.best("audio")
    if stream is None:
        raise _NoSoundError(f"{path} has no sound track: give a file with sound.")
    if not isinstance(stream, AudioStream) or stream.codec_context is None:
        raise InputError(f"{path} has sound of an unknown kind: save it as WAV or MP3.")
    return stream


def _origin(container: InputContainer) -> Fraction:
    """Where a file's time starts, in seconds: the earliest of all its tracks."""
    return Fraction(container.start_time or 0, av.time_base)
