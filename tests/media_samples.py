"""Sounds and videos made for tests."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLICK = 1.0  # seconds; where every sample sound beeps


def beep(rate: int, channels: int, seconds: float, at: float = CLICK) -> np.ndarray:
    """(n, channels) float: silence with 20 ms of 1 kHz at ``at`` seconds, half of full scale."""
    sound = np.zeros((round(rate * seconds), channels), np.float32)
    start, length = round(rate * at), rate // 50
    sound[start : start + length] = 0.5 * np.sin(np.arange(length) * 2000 * np.pi / rate)[:, None]
    return sound


def write_wav(path: Path, sound: np.ndarray, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def write_silence(path: Path, seconds: int) -> Path:
    """8 kHz, written second by second: any length without its samples in memory."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        for _ in range(seconds):
            file.writeframes(bytes(16_000))
    return path


def write_sound(path: Path, sound: np.ndarray, rate: int, codec: str, delay: float = 0.0) -> Path:
    """Encode with ffmpeg; with a ``delay`` a short silent video stands before the sound."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[sound.shape[1]]
    with av.open(str(path), "w") as container:
        video = None
        if delay:
            video = container.add_stream("libx264", rate=25)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if video is not None:
            for index in range(25):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
                picture.pts, picture.time_base = index, Fraction(1, 25)
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound.T).astype(np.float32), format="fltp", layout=layout
        )
        frame.rate, frame.pts = rate, round(delay * rate)
        frame.time_base = Fraction(1, rate)
        resampler = av.AudioResampler(stream.format, layout, rate, stream.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def write_video(
    path: Path,
    times: list[float],
    pictures: list[np.ndarray],
    codec: str = "libx264",
    rate: int = 25,
    aspect: Fraction = Fraction(1),
) -> Path:
    """Pictures shown from the given times on, in seconds (any spacing); ``aspect`` of a pixel."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = aspect
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_mute_track(path: Path) -> Path:
    """Two pictures and a sound track without a sample in it."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for index in range(2):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return path


def onset(sound: np.ndarray, rate: int) -> float:
    """Seconds until the beep of a mono sound."""
    return float(np.flatnonzero(np.abs(sound) > 0.1)[0] / rate)
