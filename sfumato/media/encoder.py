"""H.264 pictures and AAC sound, interleaved into one file as they come."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
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

from sfumato.media.audio import SoundDecoder
from sfumato.timebase import FPS

Pixels = NDArray[np.uint8]

# swscale's default rounds to the dark side; these flags remove the bias.
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP

_AAC_FRAME = 1024
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}


class Encoder:
    """Writes one video into an open container.

    Args:
        container: Where packets go; the caller closes it.
        size: (width, height), both even.
        sound: The recording, or None.
        threads: Encoder threads; 0 lets x264 choose.
    """

    def __init__(
        self,
        container: OutputContainer,
        size: tuple[int, int],
        sound: SoundDecoder | None,
        threads: int,
    ) -> None:
        self._container = container
        self._size = size
        self._video = _video_stream(container, size, threads)
        self._reformatter = VideoReformatter()
        self._shown = 0
        self._audio: AudioStream | None = None
        self._sounds: Iterator[AudioFrame] = iter(())
        if sound is not None:
            self._audio, self._sounds = _audio_stream(container, sound)
        self._next_sound = next(self._sounds, None)
        self._heard = 0.0  # seconds of sound that were encoded

    def run(self, pictures: Iterator[Pixels]) -> None:
        """Encode all pictures, (H, W, 3) uint8 RGB of at least ``size``, and all of the sound."""
        image: Pixels | None = None
        for image in pictures:
            self._show(image)
            self._hear()
        # A hundredth of a picture: rounding between sample rates is no reason for one more.
        while image is not None and (
            self._next_sound is not None or self._heard * FPS > self._shown + 0.01
        ):
            self._show(image)
            self._hear()
        self._container.mux(self._video.encode(None))
        if self._audio is not None:
            self._container.mux(self._audio.encode(None))

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
        """Encode the sound that starts before the end of the last picture."""
        while (frame := self._next_sound) is not None and self._audio is not None:
            if (frame.pts or 0) * FPS >= self._shown * frame.sample_rate:
                return
            self._heard = ((frame.pts or 0) + frame.samples) / frame.sample_rate
            self._container.mux(self._audio.encode(frame))
            self._next_sound = next(self._sounds, None)


def _video_stream(container: OutputContainer, size: tuple[int, int], threads: int) -> VideoStream:
    options = {"preset": "veryfast", "crf": "18"}
    stream = container.add_stream("libx264", rate=FPS, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = threads
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.colorspace = Colorspace.ITU709
    stream.codec_context.color_primaries = ColorPrimaries.BT709
    stream.codec_context.color_trc = ColorTrc.BT709
    return stream


def _audio_stream(
    container: OutputContainer, sound: SoundDecoder
) -> tuple[AudioStream, Iterator[AudioFrame]]:
    """A track of the recording's own rate and channels, or the nearest that AAC has."""
    rate = next((rate for rate in _AAC_RATES if rate >= sound.rate), _AAC_RATES[-1])
    layout = _AAC_LAYOUTS.get(sound.channels, "7.1")
    stream = container.add_stream("aac", rate=rate, layout=layout)
    stream.bit_rate = min(96_000, 5 * rate) * stream.codec_context.channels
    return stream, sound.frames(rate, layout, "fltp", _AAC_FRAME)
