"""The store of portraits: prepared once, kept while used, in memory alone."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import InputError, NoFaceError, SfumatoError

pytest.importorskip("fastapi", reason="needs the extra: server")

from sfumato.server import photos  # noqa: E402
from sfumato.server import portraits as module  # noqa: E402
from sfumato.server.portraits import LADY, Portraits, UnknownPortraitError  # noqa: E402

pytestmark = pytest.mark.unit


class Painter:
    """A studio that notes what it is asked for; a green photo has no face."""

    def __init__(self) -> None:
        self.calls: list[dict[str, object]] = []

    def avatar(self, photo: np.ndarray, **wishes: object) -> SimpleNamespace:
        time.sleep(0.02)
        self.calls.append({"shape": photo.shape} | wishes)
        if photo[0, 0, 1] > 200 > photo[0, 0, 0]:
            raise NoFaceError("the picture: no face")
        size = wishes["size"]
        canvas = SimpleNamespace(image=np.full((size, size, 3), 90, np.uint8), size=size)
        return SimpleNamespace(portrait=SimpleNamespace(canvas=canvas), warnings=[], wishes=wishes)


@pytest.fixture
def painter() -> Painter:
    return Painter()


@pytest.fixture
def store(painter: Painter) -> Iterator[Portraits]:
    store = Portraits(painter, 256, most=2)
    painter.calls.clear()
    yield store
    store.close()


def photo(grey: int, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def green() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (0, 250, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def names(store: Portraits) -> list[str]:
    return [entry.name for entry in store.all()]


def test_the_same_photo_is_prepared_once(store: Portraits, painter: Painter) -> None:
    async def run() -> None:
        both = await asyncio.gather(store.add(photo(1), "a"), store.add(photo(1), "again"))
        assert both[0] is both[1] is await store.add(photo(1), "later")
        assert await store.get(both[0].id) is both[0].avatar
        other = await store.add(photo(1), "a", face=1)
        assert other.id == f"{both[0].id}-2"

    asyncio.run(run())
    assert [call["face"] for call in painter.calls] == [None, 1]
    assert painter.calls[0]["digest"] == hashlib.sha256(photo(1)).hexdigest()


def test_who_was_not_used_for_longest_goes(store: Portraits) -> None:
    async def run() -> None:
        one, two = await store.add(photo(1), "one"), await store.add(photo(2), "two")
        await store.get(one.id)
        await store.add(photo(3), "three")
        assert names(store) == ["Lady", "one", "three"]
        with pytest.raises(UnknownPortraitError, match="no portrait") as caught:
            await store.get(two.id)
        assert caught.value.status == 404
        store.remove(one.id)
        assert names(store) == ["Lady", "three"]
        await store.add(photo(4), "four")
        assert names(store) == ["Lady", "three", "four"]

    asyncio.run(run())


def test_those_of_the_house_stay(store: Portraits, tmp_path) -> None:
    path = tmp_path / "me.png"
    path.write_bytes(photo(9))
    store.offer(path)
    assert names(store) == ["Lady", "me"] and store.first == LADY
    for entry in store.all():
        with pytest.raises(SfumatoError, match="only uploaded") as caught:
            store.remove(entry.id)
        assert caught.value.status == 403
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "green.png").write_bytes(green())
    for name, words in {
        "missing.jpg": "No photo at",
        "text.jpg": "--portrait .*text.jpg: .* is no picture",
        "green.png": "green.png: the picture: no face",
    }.items():
        with pytest.raises(InputError, match=words):
            store.offer(tmp_path / name)
    assert names(store) == ["Lady", "me"]


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [(b"text", 415, "the photo is no picture"), (green(), 400, "no face")],
)
def test_what_cannot_be_used_is_not_kept(
    store: Portraits, data: bytes, status: int, words: str
) -> None:
    async def run() -> None:
        for _ in range(2):
            with pytest.raises(SfumatoError, match=words) as caught:
                await store.add(data, "bad")
            assert getattr(caught.value, "status", 400) == status

    asyncio.run(run())
    assert names(store) == ["Lady"] and not store._coming


def test_large_photos_are_shrunk_or_refused(
    store: Portraits, painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "_KEPT_PIXELS", 300)
    monkeypatch.setattr(photos, "MOST_PIXELS", 2_000_000)

    async def run() -> None:
        await store.add(photo(1), "large")
        with pytest.raises(SfumatoError, match="more than 2 megapixels"):
            await store.add(photo(1, (2000, 1001)), "too large")

    asyncio.run(run())
    assert [call["shape"] for call in painter.calls] == [(15, 20, 3)]


@pytest.mark.parametrize("size", [(400, 1), (1, 400)])
def test_a_line_of_pixels_stays_one(
    store: Portraits, painter: Painter, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(photos, "_KEPT_PIXELS", 100)  # half of its sides: half a pixel is none
    asyncio.run(store.add(photo(1, size), "line"))
    width, height = (max(1, side // 2) for side in size)
    assert [call["shape"] for call in painter.calls] == [(height, width, 3)]


def test_only_so_many_are_prepared(store: Portraits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMING", 2)

    async def run() -> list[object]:
        adding = (store.add(photo(grey), str(grey)) for grey in range(4))
        return await asyncio.gather(*adding, return_exceptions=True)

    results = asyncio.run(run())
    refused = [result for result in results if isinstance(result, SfumatoError)]
    assert len(refused) == 2 and {error.status for error in refused} == {503}


def test_who_stops_waiting_does_not_stop_the_work(store: Portraits, painter: Painter) -> None:
    async def run() -> None:
        first = asyncio.create_task(store.add(photo(1), "a"))
        await asyncio.sleep(0.005)
        second = asyncio.create_task(store.add(photo(1), "a"))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).name == "a"

    asyncio.run(run())
    assert len(painter.calls) == 1
