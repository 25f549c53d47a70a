"""The corpus of bad inputs: each gives one line with the cure and exit 2, or a note and a video."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from media_samples import beep, write_video, write_wav
from PIL import Image
from typer.testing import CliRunner, Result

import sfumato
from sfumato import cli, weights
from sfumato.errors import InputError
from sfumato.media.image import load_image
from sfumato.media.video import VideoReader

pytestmark = pytest.mark.unit


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def assert_refused(result: Result, word: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert word in result.stderr and "Traceback" not in result.output


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    return Image.fromarray(load_image(str(weights.find("demo/portrait.jpg")))).reduce(2)


@pytest.fixture(scope="module")
def networks() -> None:
    try:
        sfumato.load()
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"networks are not there yet: {error}")


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portrait: Image.Image
) -> Iterator[Path]:
    """Here lie a good photo and a good recording; whatever happens no partial file stays."""
    monkeypatch.chdir(tmp_path)
    portrait.save("me.jpg", quality=92)
    write_wav(tmp_path / "hello.wav", beep(16_000, 1, 1.2), 16_000)
    yield tmp_path
    assert not list(tmp_path.glob("*.partial.*"))


def huge_png() -> bytes:
    """A few bytes whose header promises 50 000 x 50 000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(50_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


# Photos that cannot be read


BAD_PHOTOS: dict[str, tuple[Callable[[Path, Image.Image], object], str]] = {
    "missing.jpg": (lambda path, _: None, "No photo at"),
    "folder.jpg": (lambda path, _: path.mkdir(), "is a folder"),
    "empty.jpg": (lambda path, _: path.write_bytes(b""), "empty"),
    "text.jpg": (lambda path, _: path.write_text("dear photo"), "no picture"),
    "noise.png": (lambda path, _: path.write_bytes(bytes(range(256)) * 40), "no picture"),
    "huge.png": (lambda path, _: path.write_bytes(huge_png()), "megapixels"),
    "cut.jpg": (lambda path, good: (good.save(path), os.truncate(path, 9000)), "broken"),
    "sound.jpg": (lambda path, _: write_wav(path, beep(16_000, 1, 1.1), 16_000), "no picture"),
}


@pytest.mark.parametrize("name", BAD_PHOTOS)
def test_photo_that_cannot_be_read(
    folder: Path, portrait: Image.Image, networks: None, name: str
) -> None:
    make, word = BAD_PHOTOS[name]
    make(folder / name, portrait)
    assert_refused(run("animate", name, "hello.wav", "-o", "out.mp4"), word)
    assert not (folder / "out.mp4").exists()


def test_photo_of_one_pixel(folder: Path, networks: None) -> None:
    Image.new("RGB", (1, 1)).save("dot.png")
    assert_refused(run("inspect", "dot.png"), "face")


# Photos without a usable face


@pytest.mark.parametrize("kind", ["plain", "noise", "stripes"])
def test_no_face(folder: Path, networks: None, kind: str) -> None:
    rng = np.random.default_rng(3)
    image = np.full((400, 500, 3), 130, np.uint8)
    if kind == "noise":
        image = rng.integers(0, 255, image.shape, np.uint8)
    if kind == "stripes":
        image[::20] = image[:, ::30] = 20
    Image.fromarray(image).save("scene.png")
    assert_refused(run("animate", "scene.png", "hello.wav"), "no human-like face")


def test_face_too_small(folder: Path, portrait: Image.Image, networks: None) -> None:
    scene = Image.new("RGB", (700, 700), (120, 130, 125))
    scene.paste(portrait.resize((90, 90 * portrait.height // portrait.width)), (300, 300))
    scene.save("far.png")
    result = run("animate", "far.png", "hello.wav")
    assert_refused(result, "face")


def test_several_faces_take_the_largest_with_a_note(
    folder: Path, portrait: Image.Image, networks: None
) -> None:
    small = portrait.resize((portrait.width * 2 // 3, portrait.height * 2 // 3))
    scene = Image.new("RGB", (portrait.width + small.width, portrait.height), (120, 130, 125))
    scene.paste(portrait, (0, 0))
    scene.paste(small, (portrait.width, 0))
    scene.save("pair.png")
    result = run("animate", "pair.png", "hello.wav", "--size", 256)
    assert result.exit_code == 0, result.output
    assert "2 faces" in result.stderr and (folder / "pair-hello.mp4").exists()
    wrong = run("animate", "pair.png", "hello.wav", "--face", 5, "-o", "b.mp4")
    assert_refused(wrong, "choose a face from 1 to 2")


# Recordings


BAD_SOUNDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.wav": (lambda path: None, "No recording at"),
    "folder.wav": (lambda path: path.mkdir(), "is a folder"),
    "empty.wav": (lambda path: path.write_bytes(b""), "empty"),
    "text.wav": (lambda path: path.write_text("la la la"), "broken"),
    "none.wav": (lambda path: write_wav(path, np.zeros((0, 1)), 16_000), "0 samples"),
    "mute.mp4": (
        lambda path: write_video(path, [0.0, 0.04], [np.zeros((64, 64, 3), np.uint8)] * 2),
        "no sound track",
    ),
}


@pytest.mark.parametrize("command", ["animate", "motion"])
@pytest.mark.parametrize("name", BAD_SOUNDS)
def test_bad_recording(folder: Path, name: str, command: str) -> None:
    make, word = BAD_SOUNDS[name]
    make(folder / name)
    photo = ["me.jpg"] if command == "animate" else []
    assert_refused(run(command, *photo, name), word)


def test_shortest_recording_makes_one_frame(folder: Path, networks: None) -> None:
    write_wav(folder / "click.wav", np.full((1, 1), 0.5, np.float32), 16_000)
    result = run("animate", "me.jpg", "click.wav", "-o", "out.mp4", "--size", 256)
    assert result.exit_code == 0, result.output
    with VideoReader(folder / "out.mp4") as reader:
        assert len(list(reader)) == 1


# Videos and motion files


def test_drive_with_a_video_of_nobody(folder: Path, networks: None) -> None:
    write_video(folder / "dark.mp4", [0.0, 0.04], [np.zeros((128, 128, 3), np.uint8)] * 2)
    assert_refused(run("drive", "me.jpg", "dark.mp4"), "no face")


@pytest.mark.parametrize(
    ("name", "word"),
    [("hello.wav", "no pictures"), ("none.mp4", "No video"), ("bad.mp4", "broken")],
)
def test_drive_with_no_video(folder: Path, name: str, word: str) -> None:
    (folder / "bad.mp4").write_bytes(b"\0" * 5000)
    assert_refused(run("drive", "me.jpg", name), word)


@pytest.mark.parametrize(
    ("name", "word"), [("hello.wav", "motion"), ("none.motion", "No motion file"), ("e", "empty")]
)
def test_render_with_no_motion(folder: Path, name: str, word: str) -> None:
    (folder / "e").write_bytes(b"")
    assert_refused(run("render", "me.jpg", name), word)


# Outputs


def test_bad_outputs(folder: Path) -> None:
    (folder / "there.mp4").write_bytes(b"precious")
    (folder / "dir.mp4").mkdir()
    for output, word in {
        "there.mp4": "--force",
        "no/such/out.mp4": "No folder",
        "out.gif": "ends in",
        "dir.mp4": "is a folder",
    }.items():
        assert_refused(run("animate", "me.jpg", "hello.wav", "-o", output), word)
    assert (folder / "there.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize("size", [0, 128, 511, 4096])
def test_bad_sizes(folder: Path, networks: None, size: int) -> None:
    assert_refused(run("animate", "me.jpg", "hello.wav", "--size", size), "size")


@pytest.mark.parametrize("value", [-1, 9, "nan"])
def test_bad_expressiveness(folder: Path, networks: None, value: object) -> None:
    assert_refused(
        run("animate", "me.jpg", "hello.wav", "--expressiveness", value), "expressiveness"
    )


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Drop the rights of root for a moment, as root may read everything."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was == 0:
            os.seteuid(was)


@pytest.mark.skipif(os.name != "posix", reason="access rights are POSIX")
def test_no_permission(folder: Path) -> None:
    (folder / "secret.jpg").write_bytes(b"x")
    (folder / "secret.jpg").chmod(0)
    # Pytest's own folders are closed to others.
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    (folder / "closed").mkdir(mode=0o555)
    run("verify", "me.jpg")  # what is imported later must not need rights
    with as_nobody():
        unreadable = run("verify", "secret.jpg")
        unwritable = run("animate", "me.jpg", "hello.wav", "-o", "closed/out.mp4")
    assert_refused(unreadable, "No permission to read")
    assert_refused(unwritable, "No permission to write")


# Weights of one's own, figures


@pytest.mark.parametrize("name", ["basis.npz", "slide.npz", "emotions.npz", "interior.npz"])
def test_damaged_weights_of_ones_own(folder: Path, name: str) -> None:
    own = folder / "own"
    own.mkdir()
    (own / name).write_bytes(weights.read(name)[:700])
    code = (
        "from sfumato.latent import FaceBasis; from sfumato.render.slide import Slide\n"
        "from sfumato.emotions import Emotions; from sfumato.interior import InteriorAxes\n"
        "from sfumato.errors import InputError\n"
        "for kind in (FaceBasis, Slide, Emotions, InteriorAxes):\n"
        "    try: kind.load()\n"
        "    except InputError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, weights.FOLDER: str(own)},
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert name in done.stdout and done.stdout.count("\n") == 1, done.stdout


def test_weights_that_are_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.FOLDER, "nowhere")
    assert_refused(run("motion", "hello.wav", "-o", "a.motion"), "SFUMATO_WEIGHTS is nowhere")


def test_a_place_for_figures_is_known_before_the_work(folder: Path) -> None:
    assert_refused(run("eval", "portraits", ".", "--json", "no/x.json"), "No folder no")
    assert_refused(run("eval", "portraits", ".", "--json", "x.txt"), ".json")
    assert_refused(run("eval", "portraits", "me.jpg"), "No folder me.jpg")
    assert_refused(run("bench", "--json", "x.json", "live"), "Options of live")
