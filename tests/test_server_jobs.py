"""Videos in the queue: one at a time, cancelled at any moment, nothing left over."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from media_samples import beep, write_wav

from sfumato.errors import InputError, SfumatoError
from sfumato.media.audio import AudioReader
from sfumato.timebase import FPS

pytest.importorskip("fastapi", reason="needs the extra: server")

from sfumato.server.jobs import Jobs, Order, State, Video  # noqa: E402
from sfumato.server.options import VideoOptions  # noqa: E402

pytestmark = pytest.mark.unit


class Puppet:
    """An avatar and its clip, which is saved at the test's pace."""

    def __init__(self, frames: int = 25, failure: Exception | None = None) -> None:
        self.frames = frames
        self.failure = failure
        self.go = threading.Semaphore(0)
        self.asked: dict[str, object] = {}
        self.niceness = 0

    def animate(self, audio: Path, **wishes: object) -> Puppet:
        self.asked = wishes
        return self

    def save(self, path: Path, *, progress, threads: int) -> None:
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        for done in range(1, self.frames + 1):
            assert self.go.acquire(timeout=10)
            progress(done, None)
        if self.failure is not None:
            raise self.failure
        path.write_bytes(b"video")

    def step(self, frames: int) -> None:
        self.go.release(frames)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    folder = tmp_path / "videos"
    folder.mkdir()
    jobs = Jobs(folder, waiting=2, kept=100.0, longest=10.0, threads=1)
    yield jobs
    jobs.close()
    assert not [path for path in folder.rglob("*") if path.name == "recording"]


def order(jobs: Jobs, puppet: Puppet, seconds: float = 1.0) -> Video:
    with jobs.space() as (name, folder):
        path = folder / "recording"
        write_wav(path, beep(8_000, 1, seconds, at=0), 8_000)
        options = VideoOptions.from_json('{"seed": 7, "head": 0.5}', 256)
        return jobs.submit(name, folder, Order(lambda: puppet, path, "hello.wav", options))


def until(video: Video, state: State) -> None:
    end = time.monotonic() + 10
    while video.state != state and time.monotonic() < end:
        time.sleep(0.005)
    assert video.state == state, video.error


def until_progress(video: Video, least: float) -> None:
    end = time.monotonic() + 10
    while video.progress < least and time.monotonic() < end:
        time.sleep(0.005)
    assert video.progress >= least


def test_progress_and_the_time_that_is_left(jobs: Jobs) -> None:
    puppet = Puppet()
    video = order(jobs, puppet)
    puppet.step(5)
    until_progress(video, 0.2)
    assert video.state == State.RUNNING and video.progress == 0.2 and video.seconds_left is None
    time.sleep(0.05)
    puppet.step(7)
    until_progress(video, 0.48)
    assert 0.01 < video.seconds_left < 5
    puppet.step(13)
    until(video, State.DONE)
    assert video.progress == 1.0 and video.seconds_left is None and video.order is None
    assert video.path.read_bytes() == b"video"
    assert [path.name for path in video.folder.iterdir()] == ["video.mp4"]
    assert puppet.asked["seed"] == 7 and puppet.asked["options"].head == 0.5
    jobs.remove(video.id)
    assert not video.folder.exists()
    with pytest.raises(SfumatoError, match="no video"):
        jobs.get(video.id)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority here")
def test_it_gives_way_to_live_sessions(jobs: Jobs) -> None:
    puppet = Puppet(1)
    video = order(jobs, puppet)
    puppet.step(1)
    until(video, State.DONE)
    here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert puppet.niceness == 10 > here


def test_one_at_a_time_and_only_so_many_wait(jobs: Jobs) -> None:
    puppets = [Puppet() for _ in range(3)]
    first, second, third = (order(jobs, puppets[0]), None, None)
    until(first, State.RUNNING)
    second, third = order(jobs, puppets[1]), order(jobs, puppets[2])
    for check in (jobs.check_room, lambda: order(jobs, Puppet())):
        with pytest.raises(SfumatoError, match="2 videos wait already") as caught:
            check()
        assert caught.value.status == 429
    assert len(list(first.folder.parent.iterdir())) == 3  # of the refused one nothing is left
    assert (second.state, third.state) == (State.QUEUED, State.QUEUED)
    jobs.remove(second.id)
    assert second.state == State.CANCELLED and not second.folder.exists()
    puppets[0].step(25)
    puppets[2].step(25)
    until(third, State.DONE)
    assert jobs.counts() == {
        State.QUEUED: 0,
        State.RUNNING: 0,
        State.DONE: 2,
        State.FAILED: 0,
        State.CANCELLED: 1,
    }
    assert puppets[1].asked == {}


def test_cancelled_while_it_runs(jobs: Jobs) -> None:
    puppet = Puppet()
    video = order(jobs, puppet)
    puppet.step(5)
    until_progress(video, 0.2)
    jobs.remove(video.id)
    puppet.step(1)
    end = time.monotonic() + 10
    while video.folder.exists() and time.monotonic() < end:
        time.sleep(0.005)
    assert video.state == State.CANCELLED and not video.folder.exists()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (InputError("RECORDING is broken\n at 3 s"), "hello.wav is broken at 3 s"),
        (ValueError("secret"), "a fault of the server (ValueError): its log says more"),
    ],
)
def test_failures_are_one_line(jobs: Jobs, failure: Exception, words: str) -> None:
    puppet = Puppet(1, failure)
    with jobs.space() as (name, folder):
        path = write_wav(folder / "recording", beep(8_000, 1, 1.0, at=0), 8_000)
        if isinstance(failure, InputError):
            puppet.failure = InputError(str(failure).replace("RECORDING", str(path)))
        options = VideoOptions.from_json("", 256)
        video = jobs.submit(name, folder, Order(lambda: puppet, path, "hello.wav", options))
    puppet.step(1)
    until(video, State.FAILED)
    assert video.error == words and not video.folder.exists()


def test_recordings_that_are_too_long(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    told = order(jobs, Puppet(), seconds=11.0)
    until(told, State.FAILED)
    assert told.error.startswith("hello.wav lasts longer than")
    lying = Puppet(12 * FPS)
    video = order(jobs, lying)
    lying.step(12 * FPS)
    until(video, State.FAILED)
    assert video.error.startswith("hello.wav lasts longer than")


def browser_recording(path: Path, seconds: float) -> Path:
    """WebM as browsers record it: how long it lasts is nowhere written."""
    with av.open(str(path), "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        sound = np.ascontiguousarray(beep(48_000, 1, seconds).T)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.rate = 48_000
        resampler = av.AudioResampler(stream.format, "mono", 48_000, stream.frame_size or 960)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    with AudioReader(path) as reader:
        assert reader.duration is None
    return path


@pytest.mark.parametrize("seconds", [2.0, 12.0])
def test_recordings_that_do_not_tell_how_long_they_are(jobs: Jobs, seconds: float) -> None:
    puppet = Puppet(50)
    with jobs.space() as (name, folder):
        path = browser_recording(folder / "recording", seconds)
        options = VideoOptions.from_json("", 256)
        video = jobs.submit(name, folder, Order(lambda: puppet, path, "a.webm", options))
    if seconds > 10:
        until(video, State.FAILED)
        assert video.error.startswith("a.webm lasts longer than")
        return
    puppet.step(25)
    until_progress(video, 0.47)
    assert video.progress < 0.51
    puppet.step(25)
    until(video, State.DONE)


def test_what_is_old_is_forgotten(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, waiting=2, kept=0.0, longest=10.0, threads=1)
    puppet = Puppet(1)
    video = order(jobs, puppet)
    jobs.sweep()
    assert jobs.get(video.id) is video  # not while it is made
    puppet.step(1)
    until(video, State.DONE)
    time.sleep(0.01)
    jobs.sweep()
    with pytest.raises(SfumatoError, match="no video"):
        jobs.get(video.id)
    assert not list(tmp_path.iterdir())
    jobs.close()


def test_closing_cancels_all(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, waiting=2, kept=100.0, longest=10.0, threads=1)
    puppet = Puppet()
    running, waiting = order(jobs, puppet), order(jobs, Puppet())
    until(running, State.RUNNING)
    threading.Timer(0.1, puppet.step, [1]).start()
    jobs.close()
    assert (running.state, waiting.state) == (State.CANCELLED, State.CANCELLED)
    assert not list(tmp_path.iterdir())


def test_options() -> None:
    text = '{"size": 512, "seed": 3, "full_frame": true, "gaze": [10, -5], "emotion": {"happy": 1}}'
    options = VideoOptions.from_json(text, 256)
    assert (options.size, options.seed, options.full_frame) == (512, 3, True)
    assert np.allclose(np.degrees(options.motion.gaze), [10, -5])
    assert options.motion.emotion == (("happy", 1.0),)
    assert VideoOptions.from_json("", 256).size == 256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "a JSON object"),
        ('{"size": 100}', "size 100: choose a multiple of 8"),
        ('{"size": "512"}', 'size is "512", not a whole number'),
        ('{"seed": -1}', "seed is -1"),
        ('{"seed": true}', "seed is true, not"),
        ('{"full_frame": "yes"}', "full_frame is true or false"),
        ('{"head": 3}', "head is 3: choose a number from 0 to 2"),
        ('{"head": NaN}', "head"),
        ('{"emotion": {"bored": 1}}', "bored"),
        ('{"colour": 1}', 'unknown option "colour"'),
    ],
)
def test_bad_options(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        VideoOptions.from_json(text, 256)
