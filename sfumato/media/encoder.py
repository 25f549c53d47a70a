"""H.264 pictures and AAC sound, interleaved into one file as they come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sfumato.media.sound import FileSound, PushedSound
from sfumato.timebase import FPS

Pixels = NDArray[np.uint8]

# swscale's default rounds to the dark side; these flags remove the bias: accurate_rnd,
# full_chroma_int and full_chroma_inp, for which PyAV 17 has no names.
EXACT = 0x40000 | 0x2000 | 0x4000


class Encoder:
    """Writes one video into an open container.

    Args:
        container: Where packets go; the caller closes it.
        size: (width, height), both even.
        sound: What is heard, or None.
        threads: Encoder threads; 0 lets x264 choose.
    """

    def __init__(
        self,
        container: OutputContainer,
        size: tuple[int, int],
        sound: FileSound | PushedSound | None,
        threads: int,
    ) -> None:
        self._container = container
        self._size = size
        self._video = _video_stream(container, size, threads)
        self._reformatter = VideoReformatter()
        self._shown = 0
        self._sound = sound
        self._audio = None if sound is None else _audio_stream(container, sound)
        self._heard = 0.0  # seconds of sound that were encoded

    def run(self, pictures: Iterator[Pixels], stop: threading.Event) -> None:
        """Encode all pictures, (H, W, 3) uint8 RGB of at least ``size``, and all of the sound.

        Once ``stop`` is set nothing more is encoded: nobody wants the video.
        """
        image: Pixels | None = None
        for image in pictures:
            self._show(image)
            self._hear()
        self._hear()  # the rest of what came with the last picture
        while image is not None and self._unseen() and not stop.is_set():
            self._show(image)
            self._hear()
        if stop.is_set():
            return
        self._container.mux(self._video.encode(None))
        if self._audio is not None:
            self._container.mux(self._audio.encode(None))

    def _unseen(self) -> bool:
        """Whether there is sound beyond the last picture."""
        if self._sound is not None and self._sound.left:
            return True
        # A hundredth of a picture: rounding between sample rates is no reason for one more.
        return self._heard * FPS > self._shown + 0.01

    def _show(self, image: Pixels) -> None:
        width, height = self._size
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        frame = self._reformatter.reformat(
            rgb,
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.AREA | EXACT,
        )
        frame.pts, frame.time_base = self._shown, Fraction(1, FPS)
        self._shown += 1
        self._container.mux(self._video.encode(frame))

    def _hear(self) -> None:
        """Encode the sound that belongs to the pictures so far."""
        if self._sound is None or self._audio is None:
            return
        for block in self._sound.due(self._shown):
            self._heard = ((block.pts or 0) + block.samples) / block.sample_rate
            self._container.mux(self._audio.encode(block))


def _video_stream(container: OutputContainer, size: tuple[int, int], threads: int) -> VideoStream:
    # Fractions of a pixel are looked for once, not twice: a quarter less time, a tenth more bytes.
    options = {"preset": "veryfast", "crf": "18", "x264-params": "subme=1"}
    stream = container.add_stream("libx264", rate=FPS, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = threads
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.colorspace = Colorspace.ITU709
    stream.codec_context.color_primaries = ColorPrimaries.BT709
    stream.codec_context.color_trc = ColorTrc.BT709
    return stream


def _audio_stream(container: OutputContainer, sound: FileSound | PushedSound) -> AudioStream:
    # At these rates the quick search for quantisers errs less than the slow one.
    options = {"aac_coder": "fast"}
    stream = container.add_stream("aac", rate=sound.rate, layout=sound.layout, options=options)
    stream.bit_rate = min(96_000, 5 * sound.rate) * stream.codec_context.channels
    return stream
