"""The examples: each loads, and those that need no service or device of somebody else's run."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from media_samples import write_wav
from paper_face import SIDE, paper_avatar

import sfumato
from sfumato.avatar import Avatar
from sfumato.provenance import verify
from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME

pytestmark = pytest.mark.unit

EXAMPLES = Path(__file__).parents[1] / "examples"
NEEDS = {
    "file": (),
    "livekit_agent": ("livekit.agents",),
    "livekit_worker": ("livekit.agents",),
    "microphone": ("sounddevice", "tkinter", "PIL.ImageTk"),
    "pipecat_bot": ("pipecat", "aiortc"),
    "rtmp": (),
    "virtual_camera": ("sounddevice", "pyvirtualcam"),
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cast(monkeypatch: pytest.MonkeyPatch) -> Callable[[Avatar], None]:
    """Decides who plays in the examples, whatever photo they name."""

    def choose(avatar: Avatar) -> None:
        studio = SimpleNamespace(avatar=lambda photo, **options: avatar)
        monkeypatch.setattr(sfumato, "load", lambda threads=1, helpers=False: studio)

    return choose


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A hum of 0.4 seconds."""
    t = np.arange(int(0.4 * SAMPLE_RATE)) / SAMPLE_RATE
    return write_wav(tmp_path / "hum.wav", 0.3 * np.sin(900 * t)[:, None], SAMPLE_RATE)


def tracks(path: Path | str, **options: Any) -> dict[str, float]:
    """Seconds of each track of a file, in pictures or samples."""
    with av.open(str(path), **options) as container:
        seconds = dict.fromkeys((stream.type for stream in container.streams), 0.0)
        with suppress(OSError) if options else nullcontext():  # the sender of a stream just goes
            for frame in container.decode():
                is_sound = isinstance(frame, av.AudioFrame)
                seconds["audio" if is_sound else "video"] += (
                    frame.samples / frame.sample_rate if is_sound else 1 / 25
                )
    return seconds


def test_every_example_is_listed_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_an_example_is_short_and_says_how_to_run_it(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text("utf8")
    module_doc = compile(text, name, "exec").co_consts[0]
    assert f"python examples/{name}.py" in module_doc
    assert text.count("\n") <= 70


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_an_example_loads(name: str) -> None:
    for package in NEEDS[name]:
        try:
            importlib.import_module(package)
        except (ImportError, OSError) as error:  # sounddevice without its library
            pytest.skip(f"examples/{name}.py needs {package}: {error}")
    load(name)


def test_a_file_is_made_and_marked(
    avatar: Avatar, cast: Callable[[Avatar], None], recording: Path, tmp_path: Path
) -> None:
    cast(avatar)
    target = tmp_path / "hello.mp4"
    load("file").main("me.jpg", str(recording), str(target))
    assert tracks(target)["video"] == pytest.approx(0.4)
    assert verify(target).marked


@pytest.mark.parametrize("suffix", ["flv", "mp4"])
def test_live_pictures_and_sound_go_into_a_file(
    cast: Callable[[Avatar], None], recording: Path, tmp_path: Path, suffix: str
) -> None:
    cast(paper_avatar()[0])
    target = tmp_path / f"live.{suffix}"
    asyncio.run(load("rtmp").main("me.jpg", str(recording), str(target)))
    seconds = tracks(target)
    assert 0.4 <= seconds["video"] < 3
    assert abs(seconds["video"] - seconds["audio"]) < 0.13  # AAC has blocks of 64 ms


def test_live_pictures_and_sound_go_to_an_rtmp_server(
    cast: Callable[[Avatar], None], recording: Path, unused_port: int
) -> None:
    url = f"rtmp://127.0.0.1:{unused_port}/live/me"
    came: dict[str, float] = {}
    server = threading.Thread(
        target=lambda: came.update(tracks(url, options={"listen": "1"})), daemon=True
    )
    server.start()
    cast(paper_avatar()[0])
    main = load("rtmp").main
    for attempt in range(20):  # until the server listens
        try:
            asyncio.run(main("me.jpg", str(recording), url))
            break
        except OSError:
            assert attempt < 19
            threading.Event().wait(0.1)
    server.join(10)
    assert came["video"] >= 0.4
    assert came["audio"] >= 0.4


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FakeMicrophone:
    """Stands for sounddevice.InputStream: half a second of sound is heard at once."""

    def __init__(self, rate: int, *, channels: int, dtype: str, callback: Any) -> None:
        assert (rate, channels, dtype) == (SAMPLE_RATE, 1, "float32")
        self.callback = callback

    def __enter__(self) -> FakeMicrophone:
        for _ in range(6):
            self.callback(np.full((SAMPLES_PER_FRAME, 1), 0.5, np.float32), None, None, None)
        return self

    def __exit__(self, *_failure: object) -> None:
        pass


class EnoughError(Exception):
    """Ends what would go on for ever."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Pictures that reach a screen or a camera; thirteen are enough."""
    seen: list[np.ndarray] = []

    def show(image: np.ndarray) -> None:
        seen.append(np.asarray(image))
        if len(seen) == 13:
            raise EnoughError

    class Camera:
        device = "a camera"

        def __init__(self, **shape: int) -> None:
            assert shape == {"width": SIDE, "height": SIDE, "fps": 25}

        def __enter__(self) -> Camera:
            return self

        def __exit__(self, *_failure: object) -> None:
            pass

        def send(self, image: np.ndarray) -> None:
            show(image)

    class Widget:
        def __init__(self, *_parents: object) -> None:
            pass

        def pack(self) -> None:
            pass

        def protocol(self, name: str, close: Callable[[], None]) -> None:
            assert name == "WM_DELETE_WINDOW"

        def configure(self, image: Any) -> None:
            show(image)

        def update(self) -> None:
            pass

    fakes = {
        "sounddevice": {"InputStream": FakeMicrophone},
        "pyvirtualcam": {"Camera": Camera},
        "tkinter": {"Tk": Widget, "Label": Widget},
        "PIL.ImageTk": {"PhotoImage": lambda image: image},
    }
    for name, content in fakes.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    import PIL

    monkeypatch.setattr(PIL, "ImageTk", sys.modules["PIL.ImageTk"], raising=False)
    return seen


@pytest.mark.parametrize("name", ["microphone", "virtual_camera"])
def test_a_microphone_moves_the_face(
    name: str, cast: Callable[[Avatar], None], seen: list[np.ndarray]
) -> None:
    cast(paper_avatar()[0])
    with pytest.raises(EnoughError):
        asyncio.run(load(name).main("me.jpg"))
    greys = [int(image[SIDE // 2, SIDE // 2, 0]) for image in seen]
    assert 128 in greys
    assert greys[0] == 0


def test_a_worker_for_livekit_serves_where_it_was_told(
    cast: Callable[[Avatar], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("livekit.agents", reason="needs the livekit extra")
    from aiohttp import web

    cast(paper_avatar()[0])
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(web, "run_app", lambda app, **where: served.append(where))
    load("livekit_worker").main("me.jpg")
    assert served == [{"host": "localhost", "port": 8100}]
