"""Twenty visitors with bad networks and manners: the server stays well, and as large as before."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: server")
pytest.importorskip("aiortc", reason="needs the extra: server")

import bad_visitors as bad  # noqa: E402
from bad_visitors import PING, TEXT, GoneError, Visitor, framed  # noqa: E402

from sfumato.protocol import Kind, message, to_pcm  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and sockets are read from /proc"),
]

SEATS = 6
CUT = 45.0  # seconds after which nobody hopes for a visitor any more
SWEEP = 35.0  # seconds after which free memory went back to the system
MARGIN = 80.0  # megabytes: a heap never gets as small as it was


class Server:
    """``sfumato serve`` in a process of its own."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-m", "sfumato", "serve", "--port", "0", "--size", "256"]
        self.log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [*command, "--sessions", str(SEATS)],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                text=True,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self._process.stdout is not None
        url = self._process.stdout.readline().strip()
        self.port = int(url.rpartition(":")[2])
        self._proc = Path(f"/proc/{self._process.pid}")

    def get(self, path: str) -> Any:
        url = f"http://localhost:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)

    def settled(self) -> dict[str, float]:
        """How large it is once everybody has left: memory in megabytes, threads, open files."""
        end = time.monotonic() + CUT
        while self.get("/api/health")["sessions"]["free"] < SEATS:
            assert time.monotonic() < end, self.get("/api/health")
            time.sleep(0.2)
        end = time.monotonic() + CUT
        while self._sockets() > 3 and time.monotonic() < end:  # one listens, two are its loop
            time.sleep(0.2)
        time.sleep(SWEEP)
        status = dict(
            line.split(":", 1) for line in (self._proc / "status").read_text().splitlines()
        )
        files = len(list((self._proc / "fd").iterdir()))
        memory = int(status["VmRSS"].split()[0]) / 1024
        return {"memory": memory, "threads": int(status["Threads"]), "files": files}

    def _sockets(self) -> int:
        count = 0
        for file in (self._proc / "fd").iterdir():
            with contextlib.suppress(OSError):
                count += os.readlink(file).startswith("socket:")
        return count

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)
        return self._process.returncode


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("abuse") / "errors.txt")
    yield made
    assert made.stop() == 0


def polite(server: Server) -> None:
    """Comes, speaks, hears it back, goes."""
    visitor = Visitor.seated(server.port)
    visitor.speak()
    spoken = b""
    for frame in visitor.frames():
        spoken += to_pcm(frame.samples) if frame.speech else b""
        if len(spoken) >= len(bad.words()):
            break
    assert spoken == bad.words()
    visitor.line.close()


# Who does not take what is sent


def deaf(server: Server) -> None:
    """Says hello and never reads again."""
    visitor = Visitor.seated(server.port, narrow=True)
    visitor.speak()
    bad.until_cut(visitor.line, CUT)


def deaf_and_loud(server: Server) -> None:
    """The same, and sends pings as fast as they go."""
    visitor = Visitor.seated(server.port, narrow=True)
    flood = framed(b"x" * 100, PING) * 100
    end = time.monotonic() + CUT
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            visitor.line.sendall(flood)
    assert time.monotonic() < end


def asleep(server: Server) -> None:
    """A process that is stopped while it speaks: its system acknowledges on."""
    with speaking(server, "websocket") as process:
        process.send_signal(signal.SIGSTOP)
        time.sleep(25)


# Who goes without a word, or says none


def killed(server: Server) -> None:
    with speaking(server, "websocket"):
        pass


def killed_on_webrtc(server: Server) -> None:
    with speaking(server, "webrtc"):
        pass


def reset(server: Server) -> None:
    for _ in range(5):
        visitor = Visitor.seated(server.port)
        visitor.speak()
        visitor.receive()
        bad.vanish(visitor.line)


def silent(server: Server) -> None:
    """Half-open: connects, and no more."""
    bad.until_cut(bad.connect(server.port), CUT)


def half_a_request(server: Server) -> None:
    line = bad.connect(server.port)
    line.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\nUpgrade: web")
    bad.until_cut(line, CUT)


def half_an_upload(server: Server) -> None:
    for path, kind in (("portraits", "multipart/form-data; boundary=x"), ("live", "text/json")):
        line = bad.connect(server.port)
        head = f"POST /api/{path} HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
        body = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\nabc'
        line.sendall(f"{head}Content-Type: {kind}\r\nContent-Length: 9999\r\n\r\n".encode() + body)
        line.settimeout(CUT)
        assert b" 408 " in line.recv(100)
        line.close()


def speechless(server: Server) -> None:
    """Connects to the place of live sessions, and says no hello."""
    visitor = Visitor(server.port)
    with pytest.raises(GoneError):
        while True:
            visitor.receive()


def halting(server: Server) -> None:
    """A slow network: one byte after the other, words in drops; the face comes all the same."""
    visitor = Visitor.seated(server.port)
    for byte in framed(message(Kind.CONTROL, {"ping": 1})):
        visitor.line.sendall(bytes([byte]))
        time.sleep(0.05)
    for start in range(0, 16_000, 2000):
        visitor.send(bytes([Kind.SOUND]) + bad.words()[start : start + 2000])
        time.sleep(0.2)
    visitor.answer(2)
    visitor.line.close()


# Who talks rubbish


def rubbish(server: Server) -> None:
    """Random bytes instead of a request."""
    for _ in range(20):
        line = bad.connect(server.port)
        with contextlib.suppress(OSError):
            line.sendall(random.randbytes(random.choice([1, 100, 100_000])))
            line.sendall(b"\r\n\r\n")
            line.recv(1000)
        line.close()


def rubbish_in_frames(server: Server) -> None:
    """Random bytes, broken frames and broken texts instead of messages."""
    parts = [random.randbytes(1000) for _ in range(4)]
    parts += [b"\x82\x05hello", framed(b"\xff\xfe", TEXT), framed(b"text", TEXT)]
    parts += [b"\x82\xff" + b"\x7f" * 12, b"\x88\x81\0\0\0\0\0", framed(b"x" * 200, PING)]
    parts += [framed(bytes(2 << 20)), framed(b"", 0), b"\x83\x80\0\0\0\0"]
    for part in parts:
        visitor = Visitor.seated(server.port)
        with contextlib.suppress(OSError, GoneError):
            visitor.line.sendall(part)
            visitor.line.settimeout(3)
            for _ in range(50):
                visitor.receive()
        visitor.line.close()


def rubbish_in_messages(server: Server) -> None:
    """Messages of all kinds with anything in them; the session goes on."""
    visitor = Visitor.seated(server.port)
    texts = [b"[" * 100_000, b'{"a":' * 50_000, b'{"seed": 1e999}', b"{}" * 9, b"\xff", b"9" * 9999]
    wishes: list[dict[str, Any]] = [
        {"options": {"head": 10**400}},
        {"options": {"head": float("nan"), "gaze": [float("inf"), 0]}},
        {"options": {"emotion": {"happy": -1, "\ud800": 3}}},
        {"options": {"gaze": [1, 2, 3]}, "portrait": ["lady"]},
        {"portrait": "\ud800"},
        {"say": "\ud800", "voice": "../../etc/passwd"},
        {"say": "x" * 100_000},
        {"record": {"a": []}, "ping": [[[]]]},
    ]
    for text in texts:
        visitor.send(bytes([Kind.CONTROL]) + text)
    for wish in wishes:
        visitor.send(message(Kind.CONTROL, wish))
    for number in range(300):
        visitor.send(bytes([random.randrange(256)]) + random.randbytes(random.randrange(300)))
        if number % 20 == 0:
            visitor.answer(number)
    visitor.line.close()


def bad_hellos(server: Server) -> None:
    hellos: list[bytes] = [b"", b"\0", b"\0[]", b"\0" + b"[" * 100_000, random.randbytes(99)]
    hellos += [
        message(Kind.HELLO, {"version": 1} | more)
        for more in ({"portrait": "\ud800"}, {"seed": 1.5}, {"options": {"head": 10**400}})
    ]
    for hello in hellos:
        visitor = Visitor(server.port)
        visitor.send(hello)
        with pytest.raises((GoneError, OSError)):
            visitor.receive()
        visitor.line.close()


def crumbs(server: Server) -> None:
    """Speech sample by sample, ends by the thousand, wishes without a pause."""
    visitor = Visitor.seated(server.port)
    speech, end = framed(bytes([Kind.SPEECH, 1, 0])), framed(bytes([Kind.END]))
    record = framed(message(Kind.CONTROL, {"record": True, "say": "Hello.", "interrupt": False}))
    with contextlib.suppress(OSError):
        for part in (speech * 20_000, end * 20_000, record * 200, (speech + end) * 5000):
            visitor.line.settimeout(20)
            ThreadPoolExecutor(1).submit(_swallow, visitor.line)
            visitor.line.sendall(part)
    bad.vanish(visitor.line)


def unfinished(server: Server) -> None:
    """A message whose parts never end."""
    visitor = Visitor.seated(server.port)
    visitor.line.sendall(framed(b"\2", ends=False))
    end = time.monotonic() + 2
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            visitor.line.sendall(framed(b"\0" * 1000, 0, ends=False) * 10)
    bad.vanish(visitor.line)


def bad_offers(server: Server) -> None:
    """WebRTC that is none, is enormous, or that nobody ever comes to."""
    url = f"http://localhost:{server.port}/api/live"
    sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    for text in ("", sdp, sdp + "m=video 9 X\r\n", sdp + "m=audio\r\n" * 99, "x" * 10**6):
        body = json.dumps({"sdp": text, "type": "offer"}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        assert refused.value.code in {400, 413, 503}


def _swallow(line: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while line.recv(1 << 16):
            pass


@contextlib.contextmanager
def speaking(server: Server, how: str) -> Iterator[subprocess.Popen[str]]:
    """A visitor in a process, killed at the end, who speaks and is seen."""
    command = [sys.executable, bad.__file__, str(server.port), how]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "speaking\n"
        yield process
    finally:
        process.kill()
        process.communicate()


CROWD: list[Callable[[Server], None]] = [
    *(deaf, deaf, deaf_and_loud, asleep, killed, killed, killed_on_webrtc, reset, silent, silent),
    *(half_a_request, half_an_upload, speechless, halting, rubbish, rubbish_in_frames),
    *(rubbish_in_messages, bad_hellos, crumbs, unfinished, bad_offers),
]


def crowd(server: Server, visits: list[Callable[[Server], None]]) -> None:
    """All at the same time; what one of them finds wrong is raised."""
    with ThreadPoolExecutor(len(visits)) as pool:
        coming = [(visit.__name__, pool.submit(visit, server)) for visit in visits]
    for name, visit in coming:
        if (error := visit.exception()) is not None:
            raise AssertionError(name) from error


def test_bad_visitors_leave_nothing_behind(server: Server) -> None:
    assert len(CROWD) >= 20
    for first in ([polite] * SEATS, [polite] * SEATS, [killed_on_webrtc] * 3):
        crowd(server, first)
    before = server.settled()
    sizes = []
    for _ in range(2):
        crowd(server, CROWD)
        sizes.append(server.settled())
    print(before, *sizes)
    log = server.log.read_text()
    assert "Exception in ASGI" not in log and "exception was never" not in log
    assert "/sfumato/" not in log  # no place of ours is named by a traceback
    for size in sizes:
        assert size["memory"] < before["memory"] + MARGIN
        assert size["files"] <= before["files"] + 3
        assert size["threads"] <= before["threads"] + 3
    start = time.monotonic()
    polite(server)
    assert time.monotonic() - start < 10
    assert server.get("/api/ready") == {"free": SEATS}
