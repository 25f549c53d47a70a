"""The teacher's labels lie on the grid of everybody's pictures. MediaPipe is not needed."""

from __future__ import annotations

import importlib
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from media_samples import write_video

from sfumato.media.video import VideoReader

pytestmark = pytest.mark.unit


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "mediapipe", ModuleType("mediapipe"))
    monkeypatch.delitem(sys.modules, "sfumato.train.teacher", raising=False)
    module = importlib.import_module("sfumato.train.teacher")
    monkeypatch.delitem(sys.modules, "sfumato.train.teacher")
    return module


@pytest.mark.parametrize("rate", [25, 30, 12.5, 50])
def test_labels_are_of_the_pictures_that_others_see(
    teacher: ModuleType, tmp_path: Path, rate: float
) -> None:
    pictures = [np.full((64, 64, 3), 10 + 5 * number, np.uint8) for number in range(40)]
    write_video(tmp_path / "clip.mp4", [number / rate for number in range(40)], pictures)
    with VideoReader(tmp_path / "clip.mp4") as reader:
        wanted = [float(picture.mean()) for picture in reader]
    found = [float(picture.mean()) for picture in teacher.frames(tmp_path / "clip.mp4")]
    assert abs(len(found) - len(wanted)) <= 1
    both = min(len(found), len(wanted))
    assert both >= 40 * 25 / rate - 2
    np.testing.assert_allclose(found[:both], wanted[:both], atol=3)


def test_pixels_that_are_not_square(teacher: ModuleType, tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, 0)
    pictures = [np.repeat(ramp, 3, 2)] * 3
    path = write_video(tmp_path / "c.mp4", [0, 0.04, 0.08], pictures, aspect=Fraction(4, 3))
    with VideoReader(path) as reader:
        wanted = next(iter(reader))
    found = next(iter(teacher.frames(path)))
    assert found.shape == wanted.shape == (48, 85, 3)
    np.testing.assert_allclose(found[24, 4:-4], wanted[24, 4:-4], atol=6)
