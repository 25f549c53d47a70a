"""Videos in the queue: one at a time, cancelled at any moment, nothing left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_samples import beep, write_wav

from sfumato.errors import InputError, SfumatoError
from sfumato.media.audio import AudioReader

pytest.importorskip("fastapi", reason="needs the extra: server")

from sfumato.server import jobs as module  # noqa: E402
from sfumato.server import maker  # noqa: E402
from sfumato.server.jobs import MAKER, Jobs, Order, State, Video  # noqa: E402
from sfumato.server.maker import order_line  # noqa: E402
from sfumato.server.options import VideoOptions  # noqa: E402

pytestmark = pytest.mark.unit


# A maker of videos that goes on when the test says so: its file "go" holds how many frames.
PUPPET = """
import json, os, sys, time
order = json.loads(sys.stdin.buffer.readline())
folder = os.path.dirname(order["output"])
with open(os.path.join(folder, "asked.json"), "w") as file:
    photo = sys.stdin.buffer.read().decode()
    json.dump(order | {"photo": photo, "temp": os.environ["TMPDIR"]}, file)
open(os.path.join(folder, "half.partial.mp4"), "w").close()
done, told = 0, {}
while done < 25:
    try:
        told = json.load(open(os.path.join(folder, "go.json")))
    except (OSError, ValueError):
        pass
    if done < told.get("frames", 0):
        done += 1
        print(json.dumps({"done": done, "total": 25}), flush=True)
    elif "end" in told:
        exec(told["end"])
    else:
        time.sleep(0.002)
os.replace(os.path.join(folder, "half.partial.mp4"), order["output"])
"""


def puppets(folder: Path, **limits: float) -> Jobs:
    folder.mkdir(exist_ok=True)
    settings = {"waiting": 2, "kept": 100.0, "longest": 10.0, "threads": 1} | limits
    return Jobs(folder, maker=(sys.executable, "-c", PUPPET), **settings)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    jobs = puppets(tmp_path / "videos")
    yield jobs
    jobs.close()
    assert not list((tmp_path / "videos").rglob("recording"))


def order(jobs: Jobs) -> Video:
    with jobs.space() as (name, folder):
        path = folder / "recording"
        path.write_bytes(b"sound")
        options = VideoOptions.from_json('{"seed": 7, "head": 0.5, "gaze": [10, 0]}', 256)
        return jobs.submit(name, folder, Order(b"photo", 1, path, "hello.wav", options))


def go(video: Video, frames: int, end: str = "") -> None:
    """Let it make so many frames in all, then end in a certain way."""
    told = {"frames": frames} | ({"end": end} if end else {})
    (video.folder / "go.new").write_text(json.dumps(told))
    (video.folder / "go.new").replace(video.folder / "go.json")


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


def until_started(video: Video) -> None:
    end = time.monotonic() + 10
    while video.process is None and time.monotonic() < end:
        time.sleep(0.005)
    assert video.process is not None


def until_gone(video: Video) -> None:
    end = time.monotonic() + 10
    while video.folder.exists() and time.monotonic() < end:
        time.sleep(0.005)
    assert not video.folder.exists()


def test_progress_and_the_time_that_is_left(jobs: Jobs) -> None:
    begun = time.monotonic()
    video = order(jobs)
    go(video, 5)
    until_progress(video, 0.2)
    assert video.state == State.RUNNING and video.progress == 0.2 and video.seconds_left is None
    time.sleep(0.05)
    go(video, 12)
    until_progress(video, 0.48)
    # .28 took no longer than all until now: .52 takes at most twice as long.
    assert 0.01 < video.seconds_left < 2 * (time.monotonic() - begun)
    asked = json.loads((video.folder / "asked.json").read_text())
    assert (asked["photo"], asked["face"], asked["seed"], asked["size"]) == ("photo", 1, 7, 256)
    assert asked["motion"]["head"] == 0.5 and asked["motion"]["gaze"] == [10, 0]
    assert asked["temp"] == str(video.folder) and asked["longest"] == 10.0
    go(video, 25)
    until(video, State.DONE)
    assert video.progress == 1.0 and video.seconds_left is None and video.order is None
    assert video.path.is_file() and not (video.folder / "recording").exists()
    jobs.remove(video.id)
    assert not video.folder.exists()
    with pytest.raises(SfumatoError, match="no video"):
        jobs.get(video.id)


def test_one_at_a_time_and_only_so_many_wait(jobs: Jobs) -> None:
    first = order(jobs)
    until(first, State.RUNNING)
    second, third = order(jobs), order(jobs)
    for check in (jobs.check_room, lambda: order(jobs)):
        with pytest.raises(SfumatoError, match="2 videos wait already") as caught:
            check()
        assert caught.value.status == 429
    assert len(list(first.folder.parent.iterdir())) == 3  # of the refused one nothing is left
    assert (second.state, third.state) == (State.QUEUED, State.QUEUED)
    jobs.remove(second.id)
    assert second.state == State.CANCELLED and not second.folder.exists()
    go(third, 25)
    time.sleep(0.05)
    assert third.state == State.QUEUED
    go(first, 25)
    until(third, State.DONE)
    counts = {State.DONE: 2, State.CANCELLED: 1}
    assert jobs.counts() == {state: counts.get(state, 0) for state in State}


def test_cancelled_while_it_runs(jobs: Jobs) -> None:
    video = order(jobs)
    go(video, 5)
    until_progress(video, 0.2)
    process = video.process
    jobs.remove(video.id)
    assert video.state == State.CANCELLED
    assert process.wait(10) != 0
    until_gone(video)
    assert video.error is None
    jobs.remove(video.id)  # the second time it is forgotten
    with pytest.raises(SfumatoError, match="no video"):
        jobs.get(video.id)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (
            "print(json.dumps({'error': order['recording'] + ' is broken: cut it'})); sys.exit()",
            "hello.wav is broken: cut it",
        ),
        ("raise ValueError('secret')", "a fault of the server: its log says more"),
        ("os.kill(os.getpid(), 9)", "a fault of the server: its log says more"),
        ("print('[cut', flush=True); sys.exit(1)", "a fault of the server: its log says more"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_failures_are_one_line(jobs: Jobs, end: str, words: str) -> None:
    video = order(jobs)
    go(video, 3, end)
    until(video, State.FAILED)
    assert video.error == words
    until_gone(video)


@pytest.mark.parametrize("frames", [0, 3])
def test_a_maker_that_does_not_get_on_is_ended_and_the_next_begins(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    hanging, following = order(jobs), order(jobs)
    until(hanging, State.RUNNING)
    go(hanging, frames)
    until_progress(hanging, frames / 25)
    until_started(hanging)
    jobs.sweep()
    assert hanging.state == State.RUNNING and not hanging.stuck  # there is time
    monkeypatch.setattr(module, "_PATIENCE", time.monotonic() - hanging.moved)
    jobs.sweep()
    until(hanging, State.FAILED)
    assert hanging.error.startswith("the video did not get on for")
    until_gone(hanging)
    monkeypatch.undo()
    go(following, 25)
    until(following, State.DONE)


def test_a_maker_that_cannot_be_run(tmp_path: Path) -> None:
    limits = {"waiting": 2, "kept": 100.0, "longest": 10.0, "threads": 1}
    jobs = Jobs(tmp_path, maker=(str(tmp_path / "none"),), **limits)
    video = order(jobs)
    until(video, State.FAILED)
    assert video.error.startswith("the video cannot be made (")
    jobs.close()


def test_what_is_old_is_forgotten(tmp_path: Path) -> None:
    jobs = puppets(tmp_path, kept=0.0)
    video = order(jobs)
    jobs.sweep()
    assert jobs.get(video.id) is video  # not while it is made
    go(video, 25)
    until(video, State.DONE)
    time.sleep(0.01)
    jobs.sweep()
    with pytest.raises(SfumatoError, match="no video"):
        jobs.get(video.id)
    assert not list(tmp_path.iterdir())
    jobs.close()


def test_closing_cancels_all(tmp_path: Path) -> None:
    jobs = puppets(tmp_path)
    running, waiting = order(jobs), order(jobs)
    go(running, 2)
    until_progress(running, 0.08)
    jobs.close()
    assert (running.state, waiting.state) == (State.CANCELLED, State.CANCELLED)
    assert not list(tmp_path.iterdir())


# The maker


def made(tmp_path: Path, recording: Path, photo: bytes, **wishes: object) -> list[dict[str, Any]]:
    """What the maker tells while it makes ``video.mp4``."""
    options = VideoOptions.from_json(json.dumps(wishes), 256)
    line = order_line(recording, tmp_path / "video.mp4", None, options, longest=10.0, threads=1)
    run = subprocess.run(MAKER, input=line + photo, stdout=subprocess.PIPE, check=True, timeout=60)
    return [json.loads(told) for told in run.stdout.splitlines()]


def test_what_it_cannot_make_it_says(no_leftovers: Path) -> None:
    recording = write_wav(no_leftovers / "a.wav", beep(8_000, 1, 0.4, at=0), 8_000)
    (told,) = made(no_leftovers, recording, b"no photo")
    assert told["error"].startswith("the photo is no picture")
    assert [path.name for path in no_leftovers.iterdir()] == ["a.wav"]


@pytest.mark.skipif(not hasattr(os, "nice"), reason="no priorities here")
def test_it_is_a_light_process_of_less_priority(tmp_path: Path) -> None:
    code = "import os, sys, sfumato.server.maker as m; m.main(); print(os.nice(0), *sys.modules)"
    options = VideoOptions.from_json("", 256)
    missing = tmp_path / "none.wav"
    line = order_line(missing, tmp_path / "v.mp4", None, options, longest=9.0, threads=1)
    run = subprocess.run([sys.executable, "-c", code], input=line, stdout=subprocess.PIPE)
    told, process = run.stdout.decode().splitlines()
    assert json.loads(told)["error"].startswith("No recording at")
    nice, *loaded = process.split()
    assert int(nice) == 19
    assert "sfumato.avatar" in loaded and "fastapi" not in loaded and "aiortc" not in loaded


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


def test_how_long_a_recording_is(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", beep(8_000, 1, 2.0), 8_000)
    webm = browser_recording(tmp_path / "a.webm", 2.0)
    assert maker._frames(wav, 10.0) == 50
    assert maker._frames(webm, 10.0) == pytest.approx(50, abs=2)
    for path in (wav, webm):
        with pytest.raises(InputError, match=r"a\.\w+ lasts longer than 0.025 minutes"):
            maker._frames(path, 1.5)


def test_a_recording_whose_header_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Liar:
        def animate(self, recording: Path, **wishes: object) -> Liar:
            return self

        def save(self, path: str, *, progress: Any) -> None:
            for done in range(1, 1000):
                progress(done, None)

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(maker, "avatar_of", lambda studio, photo, **wishes: Liar())
    monkeypatch.setattr(maker, "_tell", told.append)
    wav = write_wav(tmp_path / "a.wav", beep(8_000, 1, 2.0), 8_000)
    options = VideoOptions.from_json("", 256)
    line = order_line(wav, tmp_path / "v.mp4", None, options, longest=4.0, threads=1)
    with pytest.raises(InputError, match="lasts longer than"):
        maker.make(json.loads(line), b"")
    assert told[0] == {"done": 1, "total": 50} and told[-1] == {"done": 100, "total": 100}


# Options


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
