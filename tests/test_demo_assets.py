"""The built-in portrait and sounds are there, decode everywhere and are fit for use."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.unit

DEMO = Path(str(files("sfumato") / "data" / "demo"))
SOUNDS = {"speech.ogg": (9.0, 13.0), "song.ogg": (7.0, 12.0)}


def decoded(path: Path) -> tuple[np.ndarray, int]:
    """Mono float32 samples and their rate."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler("flt", "mono", stream.rate)
        parts = [
            piece.to_ndarray()[0]
            for frame in [*file.decode(stream), None]
            for piece in resampler.resample(frame)
        ]
        return np.concatenate(parts), stream.rate


def test_portrait_is_large_small_and_in_colour() -> None:
    path = DEMO / "portrait.jpg"
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[0] >= 1024 and picture.shape[1] >= 1024
    assert path.stat().st_size < 600_000
    blue, _, red = picture.reshape(-1, 3).mean(axis=0)
    assert red > blue + 10  # warm varnish
    assert picture.std() > 30


def test_portrait_has_flesh_where_the_face_is() -> None:
    picture = cv2.imread(str(DEMO / "portrait.jpg"))
    assert picture is not None
    height, width = picture.shape[:2]
    face = picture[int(0.30 * height) : int(0.48 * height), int(0.40 * width) : int(0.56 * width)]
    blue, green, red = face.reshape(-1, 3).mean(axis=0)
    assert red > green > blue
    assert red > 110


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_has_length_level_and_short_silences(name: str) -> None:
    path = DEMO / name
    samples, rate = decoded(path)
    shortest, longest = SOUNDS[name]
    assert shortest <= len(samples) / rate <= longest
    assert path.stat().st_size < 300_000
    assert np.abs(samples).max() < 0.98  # no clipping
    assert -26 < 20 * np.log10(np.sqrt(np.mean(samples**2))) < -14
    envelope = np.convolve(np.abs(samples), np.ones(rate // 100) * 100 / rate, "same")
    heard = np.flatnonzero(envelope > 0.01)
    assert heard[0] / rate <= 0.3
    assert (len(samples) - heard[-1]) / rate <= 0.3
