"""Portraits that are ready to speak: the built-in one, those given at the start, uploaded ones."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from sfumato import weights
from sfumato.avatar import Avatar, Studio
from sfumato.errors import InputError, SfumatoError
from sfumato.media.files import require_file
from sfumato.media.image import jpeg
from sfumato.server.errors import RequestError
from sfumato.server.photos import avatar_of, digest_of

Kind = Literal["built-in", "given", "uploaded"]

LADY = "lady"
_THUMBNAIL = 256
_COMING = 4  # photos that may wait to be prepared


class UnknownPortraitError(RequestError):
    """No portrait of that id."""

    def __init__(self, name: str) -> None:
        super().__init__(404, f'no portrait "{name}": it may have been replaced, upload it again')


@dataclass(frozen=True)
class Entry:
    """A portrait.

    Attributes:
        id: names it in requests.
        name: for people.
        kind: where it comes from.
        avatar: prepared for live pictures.
        picture: a small JPEG of it.
        photo: the photo's file.
        face: which face of the photo, see :meth:`sfumato.Studio.avatar`.
    """

    id: str
    name: str
    kind: Kind
    avatar: Avatar
    picture: bytes
    photo: bytes
    face: int | None = None


class Portraits:
    """All portraits. For one event loop; photos are prepared on the side, one at a time.

    Args:
        studio: prepares photos.
        size: side of live pictures.
        most: uploaded ones that are kept; beyond, the least recently used go.

    Attributes:
        first: id of the portrait that speaks when none was chosen.
        on_forget: called with the id of every uploaded one that goes.
    """

    first = LADY

    def __init__(self, studio: Studio, size: int, most: int) -> None:
        self._studio = studio
        self._size = size
        self._most = most
        self._fixed: dict[str, Entry] = {}
        self._uploaded: dict[str, Entry] = {}
        self._used: dict[str, int] = {}  # uploaded -> when, in uses
        self._uses = itertools.count()
        self._coming: dict[str, asyncio.Future[Entry]] = {}
        self._pool = ThreadPoolExecutor(1, "sfumato-portrait")
        self.on_forget: Callable[[str], None] = lambda key: None
        with as_file(weights.find("demo/portrait.jpg")) as lady:
            self._fixed[LADY] = self._prepare(LADY, lady.read_bytes(), "Lady", "built-in", None)

    def offer(self, path: Path) -> None:
        """Add a photo for as long as the server runs.

        Raises:
            InputError: It cannot be read, or there is no usable face in it.
        """
        data = require_file(path, "photo").read_bytes()
        key = _key(data, None)
        try:
            self._fixed[key] = self._prepare(key, data, path.stem, "given", None)
        except SfumatoError as error:
            raise InputError(f"--portrait {path}: {error}") from None

    async def add(self, data: bytes, name: str, face: int | None = None) -> Entry:
        """Prepare an uploaded photo; the same one again is found, not prepared.

        Args:
            data: the photo's file.
            name: of the file.
            face: which face, 0 being the largest; None takes the largest.

        Raises:
            InputError: It cannot be read, or there is no usable face in it.
            RequestError: Too many photos wait already.
        """
        key = _key(data, face)
        if known := self._known(key):
            return known
        if key not in self._coming:
            if len(self._coming) >= _COMING:
                raise RequestError(503, f"{_COMING} photos are being prepared: try again")
            loop = asyncio.get_running_loop()
            work = functools.partial(self._prepare, key, data, name, "uploaded", face)
            self._coming[key] = loop.run_in_executor(self._pool, work)
            self._coming[key].add_done_callback(functools.partial(self._came, key))
        return await asyncio.shield(self._coming[key])

    async def get(self, name: str) -> Avatar:
        """The avatar of an id.

        Raises:
            UnknownPortraitError: There is none.
        """
        return self.entry(name).avatar

    def entry(self, name: str) -> Entry:
        """All about the portrait of an id; it counts as used.

        Raises:
            UnknownPortraitError: There is none.
        """
        if found := self._known(name):
            return found
        raise UnknownPortraitError(name)

    def all(self) -> list[Entry]:
        """The built-in one first, then those given, then uploaded ones in their order."""
        return [*self._fixed.values(), *self._uploaded.values()]

    def remove(self, name: str) -> None:
        """Forget an uploaded portrait.

        Raises:
            UnknownPortraitError: There is none.
            RequestError: It was not uploaded.
        """
        if self.entry(name).kind != "uploaded":
            raise RequestError(403, "only uploaded portraits can be removed")
        self._forget(name)

    def close(self) -> None:
        """Prepare nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _known(self, key: str) -> Entry | None:
        if key in self._uploaded:
            self._used[key] = next(self._uses)
            return self._uploaded[key]
        return self._fixed.get(key)

    def _came(self, key: str, future: asyncio.Future[Entry]) -> None:
        del self._coming[key]
        if not future.cancelled() and future.exception() is None:
            self._uploaded[key] = future.result()
            self._used[key] = next(self._uses)
            while len(self._uploaded) > self._most:
                self._forget(min(self._used, key=self._used.__getitem__))

    def _forget(self, key: str) -> None:
        del self._uploaded[key], self._used[key]
        self.on_forget(key)

    def _prepare(self, key: str, data: bytes, name: str, kind: Kind, face: int | None) -> Entry:
        avatar = avatar_of(self._studio, data, size=self._size, face=face, full_frame=False)
        return Entry(key, name, kind, avatar, _thumbnail(avatar), data, face)


def _key(data: bytes, face: int | None) -> str:
    digest = digest_of(data)[:16]
    return digest if face is None else f"{digest}-{face + 1}"


def _thumbnail(avatar: Avatar) -> bytes:
    size = (_THUMBNAIL, _THUMBNAIL)
    image = cv2.resize(avatar.portrait.canvas.image, size, interpolation=cv2.INTER_AREA)
    return jpeg(image.astype(np.uint8))
