"""The command line: help, exit codes, what reaches the library. The library itself is a fake."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from importlib.resources import as_file
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from media_samples import beep, write_mute_track, write_video, write_wav
from typer.testing import CliRunner, Result

import sfumato
from sfumato import cli, provenance, weights
from sfumato.controls import MotionOptions
from sfumato.errors import InputError, NoFaceError
from sfumato.media.image import save_image
from sfumato.media.video import VideoReader, VideoWriter

pytestmark = pytest.mark.unit

COMMANDS = ["animate", "drive", "motion", "render", "inspect", "verify", "bench", "train"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def assert_one_line(result: Result, code: int, word: str) -> None:
    """The manners: the exit code, one line on stderr that holds ``word``, no traceback."""
    assert result.exit_code == code, result.output
    assert result.stderr.count("\n") == 1 and word in result.stderr
    assert "Traceback" not in result.output and not result.stdout


class FakeClip:
    """Ten grey frames."""

    def save(self, path, *, force=False, progress=None):
        with VideoWriter(path, (64, 64), force=force, finish=provenance.marker()) as writer:
            for index in range(10):
                writer.write(np.full((64, 64, 3), 90, np.uint8))
                progress(index + 1, 10)
        return path


class FakeStudio:
    """Records the calls; a photo named ``noface`` has none."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, object]]] = []

    def avatar(self, photo, **options):
        self.calls.append(("avatar", options))
        if photo.stem == "noface":
            raise NoFaceError(f"{photo}: no face\nfound; use another")
        if photo.stem == "fault":
            raise KeyError("a slip of ours")
        return SimpleNamespace(
            warnings=["two faces found"] if photo.stem == "two" else [],
            animate=self.animate,
            perform=lambda motion, audio=None: self._note("perform", motion=motion, audio=audio),
            inspect=lambda: np.zeros((32, 32, 3), np.uint8),
            describe=lambda: "one face",
        )

    def _note(self, name: str, **facts: object) -> FakeClip:
        self.calls.append((name, facts))
        return FakeClip()

    def animate(self, audio, *, seed=0, options=None):
        return self._note("animate", seed=seed, options=options)

    def track(self, video, progress=None):
        progress(1, None)
        return "a motion"

    def motion(self, audio, *, seed=0, options=None):
        return SimpleNamespace(save=lambda path: Path(path).write_text("motion"))


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> FakeStudio:
    fake = FakeStudio()
    monkeypatch.setattr(sfumato, "load", lambda threads=1, **_: fake, raising=False)
    return fake


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("me", "two", "noface", "fault"):
        save_image(tmp_path / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    write_wav(tmp_path / "hello.wav", beep(16_000, 1, 1.2), 16_000)
    write_video(tmp_path / "mute.mp4", [0.0, 0.04], [np.zeros((64, 64, 3), np.uint8)] * 2)
    return tmp_path


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0 and "sfumato animate me.jpg hello.wav" in result.stdout
    assert all(re.search(rf"\b{command}\b", result.stdout) for command in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "train face", "train motion", "train basis"])
def test_every_command_has_an_example(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0 and f"Example: sfumato {command}" in " ".join(
        result.stdout.split()
    )


def test_version_and_no_arguments() -> None:
    assert run("--version").stdout.strip() == f"sfumato {sfumato.__version__}"
    assert run().exit_code == 2
    assert run("animate", "one.jpg").exit_code == 2


def test_animate(folder: Path, studio: FakeStudio) -> None:
    result = run("animate", "me.png", "hello.wav", "--seed", 7, "--size", 256, "--face", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "me-hello.mp4"
    with VideoReader(folder / "me-hello.mp4") as reader:
        assert len(list(reader)) == 10
    assert studio.calls[0] == ("avatar", {"size": 256, "face": 1, "full_frame": False})
    assert studio.calls[1][1]["seed"] == 7
    assert run("verify", "me-hello.mp4").exit_code == 0


def test_the_motion_is_steered(folder: Path, studio: FakeStudio) -> None:
    said = ("--gaze", "10,-5", "--distance", 0.9, "--head", 0.5, "--expressiveness", 1.2)
    said += ("--emotion", "sad:0.5,afraid:0.3")
    assert run("animate", "me.png", "hello.wav", *said).exit_code == 0
    felt = {"sad": 0.5, "afraid": 0.3}
    constant = MotionOptions(1.2, 0.5, (math.radians(10), math.radians(-5)), 0.9, felt)
    assert studio.calls[1][1]["options"] == constant
    (folder / "line.json").write_text(
        '{"format": "sfumato timeline", "format_version": 1, "keys": [{"time": 1, "head": 0}]}'
    )
    result = run("animate", "me.png", "hello.wav", "-f", "--gaze", "0,5", "--timeline", "line.json")
    assert result.exit_code == 0
    line = studio.calls[-1][1]["options"]
    assert line.at(2.0) == MotionOptions(head=0.0, gaze=(0.0, math.radians(5)))
    for option, value, message in (
        ("--gaze", "left", 'say yaw and pitch in degrees, like "10,-5"'),
        ("--gaze", "80,0", "eyes turn at most 34"),
        ("--gaze", "nan,0", "gaze is (nan, 0) degrees: eyes turn at most 34"),
        ("--gaze", "0,-inf", "gaze is (0, -inf) degrees: eyes turn at most 34"),
        ("--seed", -1, "seed is -1: choose a whole number from 0"),
        ("--distance", 3, "distance is 3: choose a number from 0.8 to 1.25"),
        ("--emotion", "glad", 'unknown emotion "glad"; known: neutral, happy'),
        ("--emotion", "happy:very", "say a name and a strength from 0 to 1, like happy:0.6"),
        ("--timeline", "hello.wav", "is not JSON"),
    ):
        assert_one_line(run("animate", "me.png", "hello.wav", "-f", option, value), 2, message)


def test_drive_takes_sound_only_where_there_is_some(folder: Path, studio: FakeStudio) -> None:
    assert run("drive", "me.png", "mute.mp4", "-o", "out.mp4").exit_code == 0
    assert studio.calls[-1] == ("perform", {"motion": "a motion", "audio": None})


def test_drive_is_silent_where_the_sound_track_holds_no_sample(
    folder: Path, studio: FakeStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mute_track(folder / "hollow.mkv")
    assert run("drive", "me.png", "hollow.mkv", "-o", "out.mp4").exit_code == 0
    assert studio.calls[-1] == ("perform", {"motion": "a motion", "audio": None})

    def unknown(_: object) -> bool:
        raise InputError("sound of an unknown kind")

    monkeypatch.setattr("sfumato.media.audio.has_sound", unknown)
    monkeypatch.setattr(studio, "track", lambda *_, **__: pytest.fail("told after the work"))
    assert_one_line(run("drive", "me.png", "mute.mp4", "-o", "b.mp4"), 2, "unknown kind")


def test_motion_and_inspect(folder: Path, studio: FakeStudio) -> None:
    assert run("motion", "hello.wav").stdout.strip() == "hello.motion"
    result = run("inspect", "me.png", "-o", "sheet.png")
    assert result.exit_code == 0 and "one face" in result.stdout
    assert provenance.verify(folder / "sheet.png").marked


def test_warnings_go_to_stderr(folder: Path, studio: FakeStudio) -> None:
    result = run("animate", "two.png", "hello.wav")
    assert result.exit_code == 0 and result.stderr == "Note: two faces found\n"


def test_verify_codes(folder: Path) -> None:
    result = run("verify", "me.png")
    assert result.exit_code == 1 and "No mark found" in result.stdout
    assert_one_line(run("verify", "none.mp4"), 2, "No picture or video at none.mp4")


def test_user_errors_are_one_line(folder: Path, studio: FakeStudio) -> None:
    assert_one_line(run("animate", "noface.png", "hello.wav"), 2, "no face found")
    assert_one_line(run("animate", "me.png", "hello.wav", "--face", "x"), 2, "--face x")
    (folder / "me-hello.mp4").write_bytes(b"old")
    assert_one_line(run("animate", "me.png", "hello.wav"), 2, "--force")
    assert (folder / "me-hello.mp4").read_bytes() == b"old"
    assert run("animate", "me.png", "hello.wav", "--force").exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        "animate me.png mute.mp4 -o mute.mp4",
        "animate me.png hello.wav --timeline mute.mp4 -o mute.mp4",
        "drive me.png mute.mp4 -o mute.mp4",
        "drive me.png mute.mp4 -o sub/../mute.mp4",
        "drive me.png mute.mp4 -o link.mp4",
        "render me.png a.motion --audio mute.mp4 -o mute.mp4",
        "render mute.mp4 a.motion -o mute.mp4",
        "motion mute.motion -o mute.motion",
        "motion hello.wav --timeline mute.motion -o mute.motion",
        "export talk.csv -o talk.csv",
        "inspect me.png -o me.png",
    ],
)
def test_an_input_is_never_the_output(folder: Path, studio: FakeStudio, command: str) -> None:
    (folder / "sub").mkdir()
    (folder / "mute.motion").write_bytes(b"a recording of that name")
    (folder / "talk.csv").write_bytes(b"a motion of that name")
    os.link(folder / "mute.mp4", folder / "link.mp4")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert_one_line(run(*command.split(), "--force"), 2, "one of the inputs")
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_own_weights_come_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.FOLDER, "")  # the command sets it; this puts it back
    shipped = weights.read("emotions.npz")
    (folder / "own").mkdir()
    (folder / "own" / "emotions.npz").write_bytes(b"not a table")
    (folder / "own" / "demo").mkdir()
    assert_one_line(run("--weights", "nowhere", "inspect", "me.png"), 2, "nowhere")
    assert_one_line(run("--weights", "own", "eval", "latents", "nowhere"), 2, "nowhere")
    assert weights.read("emotions.npz") == b"not a table"
    assert weights.read("basis.npz") and shipped != b"not a table"
    with as_file(weights.find("emotions.npz")) as own:
        assert own.parent.resolve() == (folder / "own").resolve()


def test_our_faults_are_told_apart(folder: Path, studio: FakeStudio) -> None:
    assert_one_line(run("animate", "fault.png", "hello.wav"), 1, "--debug")
    with pytest.raises(KeyError):
        CliRunner().invoke(
            cli.app, ["--debug", "animate", "fault.png", "hello.wav"], catch_exceptions=False
        )


def test_training_without_torch_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("sfumato.train.")]:
        monkeypatch.delitem(sys.modules, name)
    result = run("train", "motion", ".", "--tracks", ".")
    assert_one_line(result, 2, ".[train]")


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_stopping_leaves_nothing(folder: Path, name: str) -> None:
    number = getattr(signal, name)
    code = (
        "import signal, sys, time, numpy, sfumato; from types import SimpleNamespace as N\n"
        "from sfumato import cli; from sfumato.media.video import VideoWriter\n"
        # Where the tests run in the background of a script, Ctrl-C is ignored from birth; by nohup
        # the end of a terminal is.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "if hasattr(signal, 'SIGHUP'): signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "def save(path, **_):\n"
        "    with VideoWriter(path, (64, 64)) as writer:\n"
        "        print('ready', flush=True)\n"
        "        for _ in range(1000):\n"
        "            writer.write(numpy.zeros((64, 64, 3), numpy.uint8)); time.sleep(0.05)\n"
        "avatar = N(warnings=[], animate=lambda *_, **__: N(save=save))\n"
        "sfumato.load = lambda *_, **__: N(avatar=lambda *_, **__: avatar)\n"
        "sys.argv = ['sfumato', 'animate', 'me.png', 'hello.wav', '-o', 'out.mp4']; cli.main()\n"
    )
    before = set(folder.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    assert set(folder.iterdir()) != before
    process.send_signal(number)
    error = process.communicate(timeout=20)[1]
    assert process.returncode == 130 and "Traceback" not in error and "Stopped" in error
    assert set(folder.iterdir()) == before


@pytest.mark.skipif(os.name == "nt", reason="pipes end differently on Windows")
def test_a_reader_that_stops_early_is_no_fault() -> None:
    script = (
        "from sfumato import cli\n"
        "import typer\n"
        "@cli.app.command()\n"
        "def flood() -> None:\n"
        "    for _ in range(10**5):\n"
        "        typer.echo('line')\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", script, "flood"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141
