"""Live sessions in several processes behind one server: who sits where, and what if one is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sfumato.avatar import Studio
from sfumato.errors import SfumatoError
from sfumato.protocol import Kind, content, message, to_pcm
from sfumato.timebase import SAMPLE_RATE

pytest.importorskip("fastapi", reason="needs the extra: server")
pytest.importorskip("aiortc", reason="needs the extra: server")

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402
from fastapi import FastAPI, WebSocketDisconnect  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from test_server import portrait_jpeg  # noqa: E402
from test_server_live import Visit, check_recording, sound  # noqa: E402
from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from sfumato.server.app import create_app  # noqa: E402
from sfumato.server.house import House  # noqa: E402
from sfumato.server.process import LOST  # noqa: E402
from sfumato.server.settings import ServerSettings  # noqa: E402
from sfumato.server.workers import Worker, Workers  # noqa: E402

pytestmark = pytest.mark.unit

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")


@pytest.fixture(scope="module")
def app(studio: Studio) -> Iterator[FastAPI]:
    rates = []

    def sessions_for(rate: float) -> int:
        rates.append(rate)
        return 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.server.seats.PATIENCE", 0.3)
        patch.setattr("sfumato.server.workers._PAUSE", 0.05)
        patch.setattr("sfumato.server.workers._LOOK", 0.2)
        patch.setattr("sfumato.server.workers.sessions_for", sessions_for)
        app = create_app(ServerSettings(threads=2, size=256, workers=2), studio)
        assert len(rates) == 1 and rates[0] > 1  # frames a second of both together
        yield app


@pytest.fixture(scope="module")
def house(app: FastAPI) -> House:
    house: House = app.state.house
    return house


@pytest.fixture(scope="module")
def client(app: FastAPI, house: House) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
    assert house.workers is not None
    for worker in house.workers.all:  # they end with the server, and nothing stays
        assert worker.process is not None and worker.process._popen.poll() is not None
    assert not Path(house._folder.name).exists()


@pytest.fixture(autouse=True)
def _both(client: TestClient, house: House) -> None:
    """Both workers are there and free."""
    wait_until(lambda: sessions(client) == {"live": 0, "allowed": 2, "free": 2})


@contextlib.contextmanager
def visiting(client: TestClient, **hello: Any) -> Iterator[Visit]:
    with client.websocket_connect("/live") as socket:
        socket.send_bytes(message(Kind.HELLO, {"version": 1} | hello))
        assert socket.receive_bytes()[0] == Kind.HELLO
        yield Visit(socket)


def wait_until(true: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def sessions(client: TestClient) -> dict[str, int]:
    found: dict[str, int] = client.get("/api/health").json()["sessions"]
    return found


def taken(house: House) -> list[int]:
    """Sessions of every worker."""
    assert house.workers is not None
    return [worker.taken for worker in house.workers.all]


def figures(client: TestClient) -> dict[tuple[str, str], float]:
    """Figures by name and worker; "" is the server itself. Every name comes once."""
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    return {
        (sample.name, sample.labels.get("worker", "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_two_visitors_sit_in_two_processes_and_a_third_is_refused(
    client: TestClient, house: House
) -> None:
    frames = "sfumato_frames_sent_total"
    before = figures(client)
    with visiting(client) as one, visiting(client) as two:
        assert taken(house) == [1, 1]
        for visit in (one, two):
            visit.socket.send_bytes(bytes([Kind.SPEECH]) + to_pcm(sound(SAMPLE_RATE // 2)))
            visit.until(lambda v: sum(f.speech for f in v.frames) > 3)
            assert [f.index for f in visit.frames] == list(range(len(visit.frames)))
        with (
            pytest.raises(WebSocketDisconnect) as gone,
            client.websocket_connect("/live") as socket,
        ):
            socket.receive_bytes()
        assert gone.value.code == 1013 and "taken" in gone.value.reason
        refused = client.post("/api/live", json={"sdp": "v=0", "type": "offer"})
        assert refused.status_code == 503 and "taken" in refused.json()["error"]
        assert client.get("/api/ready").status_code == 503
        after = figures(client)
        for number, visit in (("1", one), ("2", two)):
            assert after[frames, number] - before[frames, number] >= len(visit.frames)
            assert after["sfumato_frame_delay_seconds_count", number] > 0
        assert after["sfumato_sessions_live", ""] == after["sfumato_workers", ""] == 2
        assert (frames, "") not in after
        if sys.platform == "linux":
            assert after["process_resident_memory_bytes", "1"] > 5e7
    wait_until(lambda: taken(house) == [0, 0])
    assert client.get("/api/ready").json() == {"free": 2}
    assert house.workers is not None
    house.workers.rest()  # and they are there again afterwards


@pytest.mark.parametrize(
    ("first", "code", "words"),
    [
        (message(Kind.HELLO, {"version": 2}), 1002, "version 2"),
        (message(Kind.HELLO, {"version": 1, "portrait": "nobody"}), 4004, "nobody"),
        (message(Kind.HELLO, {"version": 1, "options": {"head": 7}}), 4000, "head"),
    ],
)
def test_a_worker_sends_away_as_the_server_would(
    client: TestClient, first: bytes, code: int, words: str
) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as gone,
        client.websocket_connect("/live") as socket,
    ):
        socket.send_bytes(first)
        socket.receive_bytes()
    assert gone.value.code == code and words in gone.value.reason


def test_text_is_refused_and_a_visitor_who_leaves_frees_the_seat(
    client: TestClient, house: House
) -> None:
    with pytest.raises(WebSocketDisconnect) as gone, visiting(client) as visit:
        visit.socket.send_text("hello")
        visit.until(lambda v: False, 5)
    assert gone.value.code == 1002 and "binary" in gone.value.reason
    with visiting(client) as visit:
        visit.until(lambda v: v.frames)
        visit.socket.close(4321)
        wait_until(lambda: taken(house) == [0, 0])


def test_an_uploaded_portrait_speaks_in_either_process_until_it_is_removed(
    client: TestClient, house: House
) -> None:
    photo = {"photo": ("me.jpg", portrait_jpeg(1))}
    portrait = client.post("/api/portraits", files=photo).json()["id"]
    with visiting(client, portrait=portrait) as one, visiting(client) as two:
        assert taken(house) == [1, 1]
        for _ in range(2):  # fetched, then known
            two.control(portrait=portrait)
            assert two.told("portrait") == portrait
            two.states.clear()
        assert client.delete(f"/api/portraits/{portrait}").status_code == 204
        for visit in (one, two):
            visit.control(portrait=portrait)
            visit.until(lambda v: v.errors)
            assert portrait in visit.errors[0]
            visit.frames.clear()
            visit.until(lambda v: len(v.frames) > 2)  # who shows it goes on


def test_a_recording_is_made_there_and_fetched_here(
    client: TestClient, house: House, tmp_path: Path
) -> None:
    with visiting(client) as visit:
        check_recording(visit, client, tmp_path, frames=5)
    assert house.recordings.count() == 1


def test_a_lost_worker_takes_only_its_own_visitors_and_comes_back(
    client: TestClient, house: House
) -> None:
    workers = house.workers
    assert workers is not None
    with visiting(client) as one, visiting(client) as two:
        first = workers.all[0].process
        assert first is not None
        first.kill()
        with pytest.raises(WebSocketDisconnect) as gone:
            one.until(lambda v: False)
        assert (gone.value.code, gone.value.reason) == (1011, LOST)
        count = len(two.frames)
        two.until(lambda v: len(v.frames) > count + 5)
        wait_until(lambda: taken(house) == [0, 1] and workers.all[0].process not in {None, first})
        assert sessions(client) == {"live": 1, "allowed": 2, "free": 1}
        with visiting(client) as three:
            three.until(lambda v: len(v.frames) > 3)
            assert taken(house) == [1, 1]


@POSIX
def test_a_worker_that_hangs_is_ended(
    client: TestClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.server.workers._ALIVE", 1.0)
    assert house.workers is not None
    with pytest.raises(WebSocketDisconnect) as gone, visiting(client) as visit:
        process = house.workers.all[0].process
        assert process is not None and taken(house) == [1, 0]
        os.kill(process.pid, signal.SIGSTOP)
        visit.until(lambda v: False)
    assert gone.value.code == 1011


def test_nobody_else_may_connect(house: House) -> None:
    assert house.workers is not None and house.workers.all[0].process is not None
    port = house.workers.all[0].process._port
    for headers in ({}, {"x-sfumato-token": "gu\xe9"}):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{port}/live", additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == 403


def test_webrtc_goes_to_the_worker_itself(client: TestClient, house: House) -> None:
    for _ in range(2):
        answer = client.post("/api/live", json={"sdp": "nonsense", "type": "offer"})
        assert answer.status_code == 400 and "offer" in answer.json()["error"]
    asyncio.run(asyncio.wait_for(_call(client, house), 40))


async def _call(client: TestClient, house: House) -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video", direction="recvonly")
    peer.addTransceiver("audio", direction="recvonly")
    channel = peer.createDataChannel("live")
    inbox: asyncio.Queue[bytes] = asyncio.Queue()
    channel.on("message", inbox.put_nowait)
    channel.on("open", lambda: channel.send(message(Kind.HELLO, {"version": 1})))
    tracks: dict[str, Any] = {}
    peer.on("track", lambda track: tracks.setdefault(track.kind, track))
    await peer.setLocalDescription(await peer.createOffer())
    offer = {"sdp": peer.localDescription.sdp, "type": peer.localDescription.type}
    answer = await asyncio.to_thread(client.post, "/api/live", json=offer)
    assert answer.status_code == 200, answer.text
    await peer.setRemoteDescription(RTCSessionDescription(**answer.json()))
    try:
        assert (await inbox.get())[0] == Kind.HELLO
        assert sum(taken(house)) == 1
        for _ in range(5):
            picture = await tracks["video"].recv()
        assert picture.width == 256
        channel.send(message(Kind.CONTROL, {"ping": 7}))
        while content((await inbox.get())[1:]).get("pong") != 7:
            pass
    finally:
        await peer.close()
    await asyncio.to_thread(wait_until, lambda: taken(house) == [0, 0])


def test_seats_are_dealt_out_evenly_and_go_and_come_with_their_worker(house: House) -> None:
    class Quiet:
        def end(self) -> int:
            return 0

    def dealt(count: int, total: int) -> Workers:
        settings = ServerSettings(workers=count)
        workers = Workers(settings, 4, house.portraits, Path("nowhere"))
        for worker in workers.all:
            worker.process = Quiet()  # type: ignore[assignment]
        workers._share(total)
        return workers

    assert [worker.seats for worker in dealt(3, 7).all] == [3, 2, 2]
    assert [worker.seats for worker in dealt(4, 2).all] == [1, 1]
    few = Workers(ServerSettings(workers=4, sessions=2), 4, house.portraits, Path("nowhere"))
    assert len(few.all) == 2
    workers = dealt(2, 3)
    with workers.seat(), workers.seat():
        assert [worker.taken for worker in workers.all] == [1, 1]
        workers._set(workers.all[0], None)
        assert (workers.seats.count, workers.seats.taken) == (1, 2)
    assert [worker.free for worker in workers.all] == [0, 1]
    assert Worker(1, seats=2).free == 0


def test_workers_that_do_not_come_up_are_told(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (sys.executable, "-c", "raise SystemExit(3)")
    monkeypatch.setattr("sfumato.server.process.WORKER", broken)
    with pytest.raises(SfumatoError, match=r"did not come up \(3\)"):
        create_app(ServerSettings(threads=1, size=256, workers=2), studio)


@POSIX
@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_workers_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sfumato", "serve", "--port", "0", "--size", "256"]
    server = subprocess.Popen(
        [*command, "--workers", "2", "--sessions", "1"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("http://localhost:")
        tasks = Path(f"/proc/{server.pid}/task").glob("*/children")
        workers = [int(pid) for task in tasks for pid in task.read_text().split()]
        assert len(workers) == 1  # there is only one seat
    finally:
        server.kill()
        server.communicate(timeout=20)
    wait_until(lambda: not any(map(runs, workers)), 10)


def runs(pid: int) -> bool:
    """One that ended may still wait to be asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
