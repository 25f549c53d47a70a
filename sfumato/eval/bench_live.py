"""``sfumato bench live``: a real server, a real visitor, and what passes between the two."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sfumato import weights
from sfumato.avatar import Studio
from sfumato.eval.bench import PORTRAIT, SPEECH
from sfumato.eval.live_client import Arrival, Visit, Visitor
from sfumato.eval.motion_takes import watch
from sfumato.media.audio import AudioReader
from sfumato.media.image import load_image
from sfumato.media.video import VideoReader
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_UP_SECONDS = 60.0
_LATE = 1 / FPS  # seconds after its time, beyond which a frame is late
_LEAD_IN = FPS  # frames that do not count
_REST = 0.2  # of the wide spoken opening, above the idle one: below it lips rest
_MINUTE = 60 * FPS
_INTERRUPTIONS = 5
_TRACKED, _SMALL = 256, 64  # sides of pictures that are kept
_PINGS = 100
_FULL_SECONDS = 10.0  # of watching when all seats are taken
_WEIGHED = 4  # visitors whose memory is weighed
_OTHERS = 8  # visitors that try to come in, at most


class Server:
    """``sfumato serve`` in a process of its own; a context manager."""

    def __init__(self, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "sfumato", "serve", "--port", str(self.port), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def __enter__(self) -> Server:
        end = time.monotonic() + _UP_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError):
                self.get("/api/health")
                return self
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError("the server did not come up; try `sfumato serve`")

    def __exit__(self, *failure: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)

    @property
    def live(self) -> str:
        """Address of live sessions."""
        return f"ws://127.0.0.1:{self.port}/live"

    def get(self, path: str) -> str:
        """The text of an answer."""
        return self.fetch(path).decode()

    def fetch(self, path: str) -> bytes:
        """The body of an answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return bytes(answer.read())

    def upload(self, picture: bytes) -> str:
        """Prepare a photo; its id."""
        edge = "sfumato-bench"
        head = (
            f'--{edge}\r\nContent-Disposition: form-data; name="photo"; filename="photo.png"\r\n'
            "Content-Type: image/png\r\n\r\n"
        )
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/portraits",
            head.encode() + picture + f"\r\n--{edge}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={edge}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["id"])

    def metric(self, name: str) -> float:
        """A number of /metrics, of the server and its workers together."""
        lines = self.get("/metrics").splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        if not found:
            raise KeyError(name)
        return sum(float(line.rpartition(" ")[2]) for line in found)


def run_bench_live(seconds: float, workers: int = 0) -> dict[str, Any]:
    """All figures of live sessions on this machine, visitor and server together on it.

    Args:
        seconds: of speech for the main figures.
        workers: processes that the server runs sessions in; 0 is its own.
    """
    places = "--workers", str(workers)
    with as_file(weights.find(PORTRAIT)) as photo, as_file(weights.find(SPEECH)) as sound:
        with AudioReader(sound) as reader:
            spoken = np.concatenate(list(reader))
        with Server(*places) as server:
            figures = asyncio.run(
                _speaking(server, np.resize(spoken, round(seconds * SAMPLE_RATE)))
            )
            figures |= asyncio.run(_pinged(server))
            figures |= asyncio.run(_beginning(server, photo))
            figures |= asyncio.run(_interrupted(server, spoken))
            figures |= asyncio.run(_recorded(server, spoken))
            figures |= asyncio.run(_crowd(server))
        with Server("--sessions", str(_WEIGHED), *places) as server:
            figures |= asyncio.run(_weighed(server))
    return figures


async def _speaking(server: Server, sound: np.ndarray) -> dict[str, Any]:
    """Delay, rate and load of one session that hears a microphone."""
    async with Visitor(server.live) as visitor:
        await visitor.until(lambda v: len(v.arrivals) > _LEAD_IN, 20)
        load, begin = server.metric("process_cpu_seconds_total"), time.monotonic()
        first = len(visitor.visit.arrivals)
        await visitor.speak(sound)
        took = time.monotonic() - begin
        load = server.metric("process_cpu_seconds_total") - load
        arrivals = visitor.visit.arrivals[first:]
        await asyncio.sleep(0.5)
    delays = np.array([a.delay for a in visitor.visit.arrivals[first:] if a.delay is not None])
    expected = len(sound) // SAMPLES_PER_FRAME
    late = int((delays > np.median(delays) + _LATE).sum())
    missing = max(0, expected - len(delays))
    return {
        "seconds": round(took, 1),
        "latency_ms_p50": _ms(np.percentile(delays, 50)),
        "latency_ms_p95": _ms(np.percentile(delays, 95)),
        "latency_ms_first_minute": _ms(np.median(delays[:_MINUTE])),
        "latency_ms_last_minute": _ms(np.median(delays[-_MINUTE:])),
        "fps": round(sum(a.fresh for a in arrivals) / took, 2),
        "late_share": round((late + missing) / expected, 5),
        "cores_used": round(load / took, 2),
        "quality_changes": sum("quality" in s for s in visitor.visit.states),
    }


async def _pinged(server: Server) -> dict[str, Any]:
    """How long a small message takes there and back, while frames come."""
    times = []
    async with Visitor(server.live) as visitor:
        await visitor.until(lambda v: len(v.arrivals) > _LEAD_IN, 20)
        for number in range(_PINGS):
            asked = time.monotonic()
            await visitor.control(ping=number)
            await visitor.until(lambda v: any("pong" in state for state in v.states), 5)
            times.append(time.monotonic() - asked)
            visitor.visit.states.clear()
            await asyncio.sleep(0.013)
    return {"round_trip_ms": _ms(np.median(times))}


async def _beginning(server: Server, photo: Path) -> dict[str, Any]:
    """Until the first frame: of a portrait that is ready, of a photo that nobody has seen."""
    async with Visitor(server.live) as visitor:
        await visitor.until(lambda v: v.arrivals, 20)
    ready = visitor.visit.arrivals[0].when - visitor.visit.connected
    picture = _unseen(photo)
    begin = time.monotonic()
    portrait = await asyncio.to_thread(server.upload, picture)
    async with Visitor(server.live, {"portrait": portrait}) as visitor:
        await visitor.until(lambda v: v.arrivals, 20)
    new = visitor.visit.arrivals[0].when - begin
    return {"first_frame_ms_prepared": _ms(ready), "first_frame_ms_new_photo": _ms(new)}


async def _interrupted(server: Server, sound: np.ndarray) -> dict[str, Any]:
    """From an interruption in the middle of speech until the lips are at rest, as tracked."""
    times = []
    for turn in range(_INTERRUPTIONS):
        async with Visitor(server.live, {"seed": turn}, keep=_TRACKED) as visitor:
            await visitor.until(lambda v: len(v.arrivals) > _LEAD_IN, 20)
            await visitor.say(sound[: 6 * SAMPLE_RATE])
            await asyncio.sleep(2.0 + 0.13 * turn)
            asked = time.monotonic()
            await visitor.control(interrupt=True)
            await asyncio.sleep(1.5)
        times.append(_rest_after(visitor.visit.arrivals, asked))
    return {"interrupt_to_rest_ms": _ms(np.median(times)), "interrupt_ms_max": _ms(max(times))}


def _rest_after(arrivals: list[Arrival], asked: float) -> float:
    """Seconds from ``asked`` to the first frame from which on the lips stay nearly shut."""
    shown = [a for a in arrivals if a.image is not None]
    opening = watch(Studio(1), [a.image for a in shown if a.image is not None]).lips[0]
    spoken = np.array([a.speech for a in shown])
    level = np.percentile(opening[:_LEAD_IN], 90) + _REST * np.percentile(opening[spoken], 90)
    last = max((n for n, a in enumerate(shown) if opening[n] > level), default=0)
    return max(0.0, shown[min(last + 1, len(shown) - 1)].when - asked)


async def _crowd(server: Server) -> dict[str, Any]:
    """As many visitors as are let in, all at a time, and one more."""
    visitors, refused, _ = await _let_in(server, _OTHERS)
    return {
        "sessions": len(visitors),
        "refused_when_full": refused,
        "fps_when_full": round(min(visitors, default=0.0), 1),
    }


async def _weighed(server: Server) -> dict[str, Any]:
    """What sessions weigh, on a server that lets in more than this machine may carry."""
    _, _, memory = await _let_in(server, _WEIGHED)
    return {
        "memory_mb_one_session": round(memory[0]),
        "memory_mb_per_further": round(float(np.mean(np.diff(memory))), 1),
    }


async def _let_in(server: Server, most: int) -> tuple[list[float], bool, list[float]]:
    """Visitors at a time, until one is refused.

    Returns:
        Pictures a second of each, whether one was refused, megabytes of the server after each.
    """
    visitors: list[Visitor] = []
    memory = []
    async with contextlib.AsyncExitStack() as stack:
        refused = False
        for _ in range(most):
            visitor = await stack.enter_async_context(Visitor(server.live))
            await visitor.until(lambda v: len(v.arrivals) > _LEAD_IN, 10)
            refused = visitor.visit.closed is not None
            if refused:
                break
            visitors.append(visitor)
            memory.append(server.metric("process_resident_memory_bytes") / 2**20)
        before = [sum(a.fresh for a in v.visit.arrivals) for v in visitors]
        await asyncio.sleep(_FULL_SECONDS)
        after = [sum(a.fresh for a in v.visit.arrivals) for v in visitors]
    rates = [(b - a) / _FULL_SECONDS for a, b in zip(before, after, strict=True)]
    return rates, refused, memory


async def _recorded(server: Server, sound: np.ndarray) -> dict[str, Any]:
    """Offset of picture and sound in a recording, at its beginning and at its end.

    Which moment a picture belongs to is told by the frames that came live, and what was to be
    heard then by the sound that came with them.
    """
    async with Visitor(server.live, keep=_SMALL) as visitor:
        await visitor.until(lambda v: len(v.arrivals) > _LEAD_IN, 20)
        await visitor.control(record=True)
        await visitor.speak(sound)
        await visitor.control(record=False)
        told = await visitor.until(lambda v: _url(v.states) is not None, 60)
    if not told:
        raise RuntimeError("the server told of no recording")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recording.mp4"
        file.write_bytes(server.fetch(str(_url(visitor.visit.states))))
        with AudioReader(file) as reader:
            heard = np.concatenate(list(reader))
        with VideoReader(file) as video:
            pictures = [
                cv2.resize(p, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA) for p in video
            ]
    offsets = [_offset(visitor.visit, sound, heard, pictures, part) for part in (0.25, 0.9)]
    return {
        "recorded_offset_ms_begin": _ms(offsets[0]),
        "recorded_offset_ms_end": _ms(offsets[1]),
        "recorded_seconds": round(len(pictures) / FPS, 1),
    }


def _offset(
    visit: Visit, sound: np.ndarray, heard: np.ndarray, pictures: list[np.ndarray], part: float
) -> float:
    """Seconds by which sound comes late against the pictures of a recording, ``part`` into it."""
    number = round(part * len(pictures))
    shown = [a for a in visit.arrivals if a.image is not None and a.place is not None]
    apart = [np.abs(pictures[number].astype(int) - a.image).mean() for a in shown]
    place = shown[int(np.argmin(apart))].place
    assert place is not None
    wanted = sound[place : place + SAMPLE_RATE // 2]
    begin = max(0, number * SAMPLES_PER_FRAME - SAMPLE_RATE // 2)
    there = heard[begin : begin + SAMPLE_RATE + len(wanted)]
    at = begin + int(np.argmax(np.correlate(there, wanted, "valid")))
    return (at - number * SAMPLES_PER_FRAME) / SAMPLE_RATE


def _url(states: list[dict[str, Any]]) -> str | None:
    for state in states:
        if isinstance(state.get("recording"), dict):
            return str(state["recording"]["url"])
    return None


def _unseen(photo: Path) -> bytes:
    """A photo as a file that no server has prepared: one pixel is another one."""
    image = load_image(photo).copy()
    image[0, 0] ^= 1
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def _ms(seconds: Any) -> float:
    return round(1000 * float(seconds), 1)
