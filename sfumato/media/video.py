"""Video in and out on the product's fixed grid of 25 frames a second."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.media.audio import SoundDecoder
from sfumato.media.encoder import EXACT, Encoder
from sfumato.media.files import check_output, output_errors, replacing, require_file
from sfumato.media.formats import self_contained
from sfumato.media.sound import FileSound, PushedSound
from sfumato.timebase import FPS, SAMPLES_PER_FRAME

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")
_QUEUED = 2


class VideoReader:
    """A video's pictures at 25 a second; a context manager that iterates (H, W, 3) uint8 RGB.

    Any frame rate, also a varying one: each instant of the grid shows the picture that a player
    would show there. Rotation marks and non-square pixels are applied.

    Args:
        path: Any video that ffmpeg reads.

    Raises:
        InputError: Missing or unreadable file, or no moving picture in it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = require_file(path, "video")
        try:
            self._container = av.open(
                f"file:{self.path}", metadata_errors="ignore", options=self_contained()
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise InputError(
                f"{self.path} is no video that can be read, or it is broken: save it as MP4."
            ) from error
        stream = self._container.streams.best("video")
        if not isinstance(stream, VideoStream):
            self._container.close()
            raise InputError(f"{self.path} has no pictures: give a video.")
        stream.thread_type = "AUTO"
        self._stream = stream

    @property
    def frames(self) -> int | None:
        """About how many pictures will come, if the file says how long it lasts."""
        seconds = self._container.duration
        return round(seconds * FPS / av.time_base) if seconds else None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Pixels]:
        emitted = 0
        pixels: Pixels | None = None
        shown: VideoFrame | None = None
        end = Fraction(0)
        for start, frame in self._timed():
            # A picture starts at the grid's next instant that is not more than half a step before.
            due = max(0, round(start * FPS))
            if shown is not None and due > emitted:
                pixels = self._rgb(shown)
                for _ in range(due - emitted):
                    yield pixels
                emitted = due
            shown = frame
            end = start + (frame.duration or 0) * (frame.time_base or Fraction(0))
        if shown is None:
            raise InputError(f"{self.path} holds no picture that can be read: save it again.")
        pixels = self._rgb(shown)
        for _ in range(max(1, round(end * FPS) - emitted)):
            yield pixels

    def _timed(self) -> Iterator[tuple[Fraction, VideoFrame]]:
        """Every decoded picture with its time in seconds from the start of the file."""
        origin = Fraction(self._container.start_time or 0, av.time_base)
        step = 1 / (self._stream.average_rate or Fraction(FPS))
        now = -step
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                return
            if packet is None:
                return
            with contextlib.suppress(av.error.FFmpegError):  # damaged: left out, as players do
                for frame in packet.decode():
                    if isinstance(frame, VideoFrame):
                        if frame.pts is not None and frame.time_base is not None:
                            now = frame.pts * frame.time_base - origin
                        else:
                            now += step
                        yield now, frame

    def _rgb(self, frame: VideoFrame) -> Pixels:
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        wide = frame.colorspace == Colorspace.DEFAULT and frame.height > 576
        picture = VideoReformatter().reformat(
            frame,
            width=max(1, round(frame.width * aspect)),
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if wide else None,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC | EXACT,
        )
        return np.ascontiguousarray(np.rot90(picture.to_ndarray(), frame.rotation // 90))


class VideoWriter:
    """An MP4 of H.264 and AAC that is complete or absent; a context manager.

    Pictures are encoded by a thread of their own, so that drawing and encoding overlap. A watermark
    belongs between the two: it marks the array on its way to :meth:`write`.

    Args:
        path: Where the video shall lie; .mp4, .m4v or .mov.
        size: (width, height) in pixels of the pictures; an odd last row or column is left out.
        audio: Recording that is heard, from its first to its last sample; None is a silent video.
            When it outlasts the pictures, the last one stays.
        spoken: Every picture is written with its own sound, instead of ``audio``.
        force: Whether an existing file may be replaced; ``audio`` never is.
        finish: Called with the finished file before it gets its name: the place to sign.
        threads: Encoder threads; 0 lets the encoder choose.

    Raises:
        InputError: The recording cannot be read.
        OutputError: The place cannot be written, or is taken and ``force`` is off.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        audio: str | Path | None = None,
        *,
        spoken: bool = False,
        force: bool = False,
        finish: Callable[[Path], None] | None = None,
        threads: int = 0,
    ) -> None:
        self.path = check_output(path, force, VIDEO_SUFFIXES, (audio,))
        self._size = (size[0] // 2 * 2, size[1] // 2 * 2)
        self._audio = audio
        self._pushed = PushedSound() if spoken else None
        self._finish = finish
        self._threads = threads
        self._pictures: queue.Queue[Pixels | None] = queue.Queue(_QUEUED)
        self._stop = threading.Event()
        self._over = threading.Event()  # join() of Python 3.11 is not safe from Ctrl-C
        self._ended = False
        self._failure: BaseException | None = None
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> VideoWriter:
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as source:
            sound: FileSound | PushedSound | None = self._pushed
            if self._audio:
                sound = FileSound(source.enter_context(SoundDecoder(self._audio)))
            self._partial = stack.enter_context(replacing(self.path))
            # The recording is the thread's own: whatever happens here, nobody else closes it.
            thread = threading.Thread(
                target=self._work, args=(sound, source.pop_all()), daemon=True
            )
            thread.start()
            self._cleanup = stack.pop_all()
        return self

    def write(self, image: Pixels, samples: Samples | None = None) -> None:
        """Add the next picture; it must not be changed afterwards.

        Args:
            image: (H, W, 3) uint8 RGB.
            samples: (640,) float32, its sound, where the video is ``spoken``.

        Raises:
            OutputError: An earlier picture could not be written.
        """
        self._raise_failure()
        height, width = image.shape[:2]
        if (width // 2 * 2, height // 2 * 2) != self._size:
            raise ValueError(f"picture of {width}x{height}, expected {self._size}")
        if self._pushed is not None:
            if samples is None or samples.shape != (SAMPLES_PER_FRAME,):
                raise ValueError(f"a picture comes with its own {SAMPLES_PER_FRAME} samples")
            self._pushed.push(samples)
        self._pictures.put(image)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._complete()
            else:
                self._abandon()
        except BaseException as failure:
            self._cleanup.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._cleanup.__exit__(kind, error, trace)

    def _complete(self) -> None:
        """Wait for the last picture and the last sound."""
        try:
            if self._pushed is not None:
                self._pushed.end()
            self._pictures.put(None)
            self._over.wait()
        except BaseException:  # Ctrl-C
            self._abandon()
            raise
        self._raise_failure()
        if self._finish is not None:
            self._finish(self._partial)

    def _abandon(self) -> None:
        """Nobody wants the video any more: let the thread end after the picture in hand."""
        self._stop.set()
        with contextlib.suppress(OSError):  # spares the closing of the file
            self._partial.unlink()
        with contextlib.suppress(queue.Full):  # then it finds a picture, and that it shall stop
            self._pictures.put_nowait(None)
        self._over.wait()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self, sound: FileSound | PushedSound | None, source: contextlib.ExitStack) -> None:
        """The thread: encode until the end mark; after a failure only keep the queue moving."""
        try:
            with (
                source,
                output_errors(self.path),
                av.open(str(self._partial), "w", options={"movflags": "+faststart"}) as container,
            ):
                Encoder(container, self._size, sound, self._threads).run(
                    self._incoming(), self._stop
                )
        except Exception as error:  # handed to the caller's thread by write() or at the end
            self._failure = error
            for _ in self._incoming():
                pass
        finally:
            self._over.set()

    def _incoming(self) -> Iterator[Pixels]:
        # Who asks again after the end must not wait for another.
        while not self._ended and not self._stop.is_set():
            image = self._pictures.get()
            self._ended = image is None
            if image is None or self._stop.is_set():
                return
            yield image
