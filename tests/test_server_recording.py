"""Recordings of live sessions: in step, signed, complete or absent, and never in anybody's way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from media_samples import beep

from sfumato.errors import InputError, OutputError, SfumatoError
from sfumato.media.audio import AudioReader
from sfumato.media.video import VideoReader
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

pytest.importorskip("fastapi", reason="needs the extra: server")

from sfumato import provenance  # noqa: E402
from sfumato.server import recording as module  # noqa: E402
from sfumato.server.recording import Recording, Recordings  # noqa: E402

pytestmark = pytest.mark.unit

DIGEST = "ab" * 32
SIZE = 64
CLICK = beep(SAMPLE_RATE, 1, 1 / FPS, at=0)[:, 0]
SILENCE = np.zeros(SAMPLES_PER_FRAME, np.float32)


def picture(bright: bool) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), 240 if bright else 20, np.uint8)


def wait_for_room(recording: Recording) -> None:
    """Frames come 25 a second in life; here as fast as they are encoded."""
    end = time.monotonic() + 20
    while recording._pictures > 5 and time.monotonic() < end:
        time.sleep(0.002)


def test_picture_and_sound_stay_together_to_the_end(no_leftovers: Path) -> None:
    recording = Recording.start(no_leftovers, SIZE)
    marks = range(3, 750, 83)
    for index in range(750):
        recording.add(picture(index in marks), CLICK if index in marks else SILENCE, DIGEST)
        wait_for_room(recording)
    done = recording.finish()
    assert (done.id, done.seconds) == (recording.id, 30.0)
    with VideoReader(done.path) as reader:
        shown = [image.mean() > 120 for image in reader]
    assert [i for i, bright in enumerate(shown) if bright] == list(marks)
    assert len(shown) == 750
    with AudioReader(done.path) as reader:
        sound = np.concatenate(list(reader))
    assert 0 <= len(sound) - 750 * SAMPLES_PER_FRAME < 2048  # AAC pads
    loud = np.flatnonzero(np.abs(sound) > 0.2)
    starts = loud[np.diff(loud, prepend=-SAMPLE_RATE) > SAMPLE_RATE]
    offsets = starts - SAMPLES_PER_FRAME * np.array(marks)
    assert np.abs(offsets).max() < 0.005 * SAMPLE_RATE  # from the first mark to the last
    report = provenance.verify(done.path)
    assert report.marked and report.intact and report.inputs == {"photo": DIGEST}
    assert [path.name for path in no_leftovers.iterdir()] == [done.path.name]


def test_all_photos_that_were_shown_are_named_in_their_order(no_leftovers: Path) -> None:
    recording = Recording.start(no_leftovers, SIZE)
    first, second = DIGEST, "cd" * 32
    for photo in (first, second, first):
        for _ in range(3):
            recording.add(picture(photo == first), SILENCE, photo)
    report = provenance.verify(recording.finish().path)
    assert report.marked and report.intact and report.inputs == {"photo": f"{first}, {second}"}


def test_what_falls_behind_loses_pictures_but_no_sound(
    no_leftovers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PICTURES", 3)
    recording = Recording.start(no_leftovers, SIZE)
    began = time.monotonic()
    for index in range(100):
        recording.add(picture(False), CLICK if index == 90 else SILENCE, DIGEST)
    assert time.monotonic() - began < 0.5  # it never waits
    assert sum(entry is not None and entry[0] is not None for entry in recording._frames) <= 3
    done = recording.finish()
    assert done.seconds == 4.0
    with VideoReader(done.path) as reader:
        assert len(list(reader)) == 100
    with AudioReader(done.path) as reader:
        sound = np.concatenate(list(reader))
    start = np.flatnonzero(np.abs(sound) > 0.2)[0]
    assert abs(start - 90 * SAMPLES_PER_FRAME) < 0.005 * SAMPLE_RATE


def test_it_is_bounded(no_leftovers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1.0)
    recording = Recording.start(no_leftovers, SIZE)
    for _ in range(40):
        recording.add(picture(False), SILENCE, DIGEST)
    assert recording.full
    assert recording.finish().seconds == 1.0
    monkeypatch.setattr(module, "_FRAMES", 0)
    stuck = Recording.start(no_leftovers, SIZE)
    stuck.add(picture(False), SILENCE, DIGEST)
    assert stuck.frames == 0
    stuck.abandon()


def test_abandoned_or_empty_leaves_nothing(no_leftovers: Path) -> None:
    recording = Recording.start(no_leftovers, SIZE)
    for _ in range(10):
        recording.add(picture(True), SILENCE, DIGEST)
    recording.abandon()
    recording.add(picture(True), SILENCE, DIGEST)  # a frame that was on its way
    with pytest.raises(InputError, match="nothing was recorded"):
        Recording.start(no_leftovers, SIZE).finish()
    assert not list(no_leftovers.iterdir())


def test_failures_are_told_at_the_end(no_leftovers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise OutputError("no key")

    monkeypatch.setattr(provenance, "marker", lambda **inputs: broken)
    recording = Recording.start(no_leftovers, SIZE)
    recording.add(picture(True), SILENCE, DIGEST)
    with pytest.raises(OutputError, match="no key"):
        recording.finish()
    assert not list(no_leftovers.iterdir())
    with pytest.raises(OutputError, match="No folder"):
        Recording.start(no_leftovers / "missing", SIZE)


def test_finished_ones_are_kept_for_a_while(no_leftovers: Path) -> None:
    recordings = Recordings(no_leftovers, kept=100.0)
    running = recordings.start(SIZE)
    running.add(picture(True), SILENCE, DIGEST)
    finished = recordings.start(SIZE)
    finished.add(picture(True), SILENCE, DIGEST)
    done = recordings.finish(finished)
    assert recordings.get(done.id) == done.path and recordings.count() == 1
    for other in (running.id, "unknown-one", "../secret", f"{done.id}.partial.123"):
        with pytest.raises(SfumatoError, match="no recording"):
            recordings.get(other)
    recordings.sweep()
    assert recordings.get(done.id).is_file()
    old = time.time() - 101
    for path in no_leftovers.iterdir():
        os.utime(path, (old, old))
    recordings.sweep()
    assert recordings.count() == 0
    assert recordings.finish(running).path.is_file()  # one that runs is left alone
