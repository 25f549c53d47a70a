"""What lies between a visitor and a worker: nothing piles up, nothing gets lost."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from sfumato.avatar import Avatar, Studio

pytest.importorskip("fastapi", reason="needs the extra: server")
pytest.importorskip("aiortc", reason="needs the extra: server")

import uvicorn  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.routing import WebSocketRoute  # noqa: E402
from starlette.websockets import WebSocket  # noqa: E402

from sfumato.server import relay, workroom  # noqa: E402
from sfumato.server.metrics import Metrics  # noqa: E402
from sfumato.server.orders import Answer  # noqa: E402
from sfumato.server.portraits import LADY, UnknownPortraitError  # noqa: E402
from sfumato.server.process import LOST, Process  # noqa: E402
from sfumato.server.workroom import FetchedPortraits  # noqa: E402

pytestmark = pytest.mark.unit

FRAME = bytes(40_000)


class Visitor:
    """Stands in for the server's side of a WebSocket."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.taken: list[bytes] = []
        self.takes = asyncio.Event()
        self.takes.set()

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def send_bytes(self, data: bytes) -> None:
        await self.takes.wait()
        self.taken.append(data)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def with_worker(
    work: Callable[[WebSocket], Awaitable[None]],
    visit: Callable[[Process, Visitor], Awaitable[None]],
) -> None:
    """A worker that does ``work``, with the sockets of a real one, and somebody's visit."""

    async def together() -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, workroom._BUFFER)
        listener.bind(("127.0.0.1", 0))
        app = Starlette(routes=[WebSocketRoute("/live", work)])
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", lifespan="off", ws_per_message_deflate=False)
        )
        serving = asyncio.create_task(server._serve([listener]))
        await until(lambda: server.started)
        process = Process.__new__(Process)
        process._port, process._token = listener.getsockname()[1], "token"
        try:
            await visit(process, Visitor())
        finally:
            server.should_exit = True
            await serving

    asyncio.run(asyncio.wait_for(together(), 20))


def test_a_visitor_who_takes_nothing_slows_the_worker_down() -> None:
    sent = 0

    async def work(server: WebSocket) -> None:
        nonlocal sent
        await server.accept()
        for number in itertools.count():
            await server.send_bytes(number.to_bytes(4, "big") + FRAME)
            sent += 1

    async def visit(process: Process, visitor: Visitor) -> None:
        visitor.takes.clear()
        carrying = asyncio.create_task(relay.carry(visitor, process))  # type: ignore[arg-type]
        await asyncio.sleep(0.3)
        settled = sent
        await asyncio.sleep(0.3)
        assert sent == settled <= 16  # under 0.7 s of frames are on their way
        visitor.takes.set()
        await until(lambda: len(visitor.taken) >= 40)
        visitor.takes.clear()
        await visitor.inbox.put({"type": "websocket.disconnect", "code": 1005})
        assert await carrying is None
        numbers = [int.from_bytes(data[:4], "big") for data in visitor.taken]
        assert numbers == list(range(len(numbers)))

    with_worker(work, visit)


def test_what_a_worker_says_last_arrives_with_its_reason() -> None:
    async def work(server: WebSocket) -> None:
        await server.accept()
        for _ in range(10):
            await server.send_bytes(FRAME)
        await server.close(4004, "no such portrait")

    async def visit(process: Process, visitor: Visitor) -> None:
        await visitor.inbox.put({"type": "websocket.receive", "bytes": b"hello"})
        assert await relay.carry(visitor, process) == (4004, "no such portrait")  # type: ignore[arg-type]
        assert visitor.taken == 10 * [FRAME]

    with_worker(work, visit)


def test_small_messages_leave_at_once() -> None:
    async def work(server: WebSocket) -> None:
        await server.accept()
        await server.receive()

    async def visit(process: Process, visitor: Visitor) -> None:
        async with await process.connect("/live") as connection:
            near = connection.transport.get_extra_info("socket")
            assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    with_worker(work, visit)


@pytest.mark.parametrize(
    ("left", "told"),
    [({"code": 4321, "reason": "bye"}, (4321, "bye")), ({"code": 1006}, (1001, ""))],
)
def test_how_a_visitor_leaves_is_told_to_the_worker(
    left: dict[str, Any], told: tuple[int, str]
) -> None:
    heard: list[dict[str, Any]] = []

    async def work(server: WebSocket) -> None:
        await server.accept()
        while not heard or heard[-1]["type"] != "websocket.disconnect":
            heard.append(dict(await server.receive()))

    async def visit(process: Process, visitor: Visitor) -> None:
        for message in ({"bytes": b"one"}, {"text": "two"}):
            await visitor.inbox.put({"type": "websocket.receive", **message})
        await visitor.inbox.put({"type": "websocket.disconnect", **left})
        assert await relay.carry(visitor, process) is None  # type: ignore[arg-type]

    with_worker(work, visit)
    assert heard[0]["bytes"] == b"one" and heard[1]["text"] == "two"
    assert (heard[2]["code"], heard[2]["reason"]) == told


def test_a_worker_that_fails_or_is_not_there() -> None:
    async def work(server: WebSocket) -> None:
        await server.accept()
        raise ValueError("a fault")

    async def visit(process: Process, visitor: Visitor) -> None:
        assert await relay.carry(visitor, process) == (1011, LOST)  # type: ignore[arg-type]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            process._port = free.getsockname()[1]
            assert await relay.carry(visitor, process) == (1011, LOST)  # type: ignore[arg-type]

    with_worker(work, visit)


def test_figures_of_workers_stand_beside_the_servers_own() -> None:
    own, one, two = Metrics(), Metrics(), Metrics()
    own.refused()
    for delay in (0.1, 0.12, None):
        one.frame(delay)
    two.frame(0.2)
    text = own.text({1: one.report(), 2: two.report()}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    frames = families["sfumato_frames_sent"]
    assert frames.type == "counter"
    assert {s.labels["worker"]: s.value for s in frames.samples if s.name.endswith("_total")} == {
        "1": 3, "2": 1,
    }  # fmt: skip
    delays = {
        (s.labels["worker"], s.labels["le"]): s.value
        for s in families["sfumato_frame_delay_seconds"].samples
        if s.name.endswith("_bucket")
    }
    assert delays["1", "0.1"] == 1 and delays["1", "0.13"] == 2 and delays["2", "+Inf"] == 1
    assert text.count("# TYPE sfumato_frames_sent_total counter") == 1
    assert "sfumato_sessions_refused_total 1.0" in text
    assert "sfumato_frames_sent_total 0.0" in Metrics().text().decode()


@pytest.mark.skipif(sys.platform != "linux", reason="figures of processes are read from /proc")
def test_figures_of_helpers_stand_beside_those_of_their_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as helper:
        metrics = Metrics(lambda: [helper.pid])
        server = Metrics().text({1: metrics.report()}).decode()
        alone = metrics.text().decode()
    for text, worker in ((alone, {}), (server, {"worker": "1"})):
        families = {family.name: family for family in text_string_to_metric_families(text)}
        for name in ("process_resident_memory_bytes", "process_cpu_seconds"):
            labels = [sample.labels for sample in families[name].samples]
            assert worker in labels and worker | {"helper": "1"} in labels
    assert "helper=" not in metrics.text().decode()  # it has ended


def test_a_portrait_that_was_sent_shows_the_same_pictures(studio: Studio, avatar: Avatar) -> None:
    import pickle

    begin = time.perf_counter()
    sent = Avatar(studio, pickle.loads(pickle.dumps(avatar.prepared, protocol=5)))
    assert time.perf_counter() - begin < 2
    silence = np.zeros(8 * 640, np.float32)
    one, two = (a.stream(seed=3).push(silence) for a in (avatar, sent))
    assert len(one) > 1
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))
    assert sent.digest == avatar.digest and sent.describe() == avatar.describe()


def test_a_worker_keeps_few_portraits_and_none_that_was_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Face:
        def __init__(self, studio: object, prepared: object) -> None:
            self.prepared = prepared

    monkeypatch.setattr(workroom, "Avatar", Face)
    asked: list[tuple[str, bool]] = []
    removed: set[str] = set()

    async def visit() -> None:
        def tell(content: dict[str, Any]) -> None:
            name, has = content["wants"], content["has"]
            asked.append((name, has))
            known = name not in removed
            prepared: Any = name if known and not has else None
            portraits.answered(Answer(content["number"], known, prepared))

        portraits = FetchedPortraits(None, tell, Face(None, LADY), 4)  # type: ignore[arg-type]
        assert (await portraits.get(LADY)).prepared == LADY
        shown = await portraits.get("a")
        for name in ("b", "c", "d", "e", "f"):
            await portraits.get(name)
        assert await portraits.get("a") is shown  # a session shows it
        await portraits.get("b")
        assert [name for name, has in asked if has] == [LADY, "a"]
        removed.add("a")
        portraits.forget("a")
        with pytest.raises(UnknownPortraitError):
            await portraits.get("a")
        assert list(portraits._recent) == ["e", "f", "b"]

        def tell_late(content: dict[str, Any]) -> None:
            portraits.answered(Answer(content["number"], True, content["wants"]))
            portraits.forget(content["wants"])

        portraits._tell = tell_late
        assert (await portraits.get("g")).prepared == "g"  # type: ignore[comparison-overlap]
        assert "g" not in portraits._recent and "g" not in portraits._alive

    asyncio.run(visit())
