"""What all visitors of a server share, and the order in which it comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato import avatar, machine, provenance
from sfumato.avatar import Studio, check_size
from sfumato.server.jobs import Jobs, State
from sfumato.server.memory import give_back
from sfumato.server.metrics import Metrics
from sfumato.server.portraits import Portraits
from sfumato.server.process import Process
from sfumato.server.recording import Recordings
from sfumato.server.seats import Seats, carried
from sfumato.server.settings import ServerSettings
from sfumato.server.uploads import Uploads
from sfumato.server.voices import Voices
from sfumato.server.workers import Workers

_SWEEP_SECONDS = 30.0


@dataclass
class House:
    """Everything that requests use; made by :meth:`open`, ended by :meth:`close`.

    Attributes:
        settings: how the server is set up.
        studio: networks and bases.
        portraits: who can speak.
        seats: live sessions at a time.
        jobs: videos that are made.
        recordings: of live sessions.
        voices: that are installed.
        uploads: takes in what visitors send.
        metrics: what is counted.
        workers: that run the live sessions; None: they run here.
    """

    settings: ServerSettings
    studio: Studio
    portraits: Portraits
    seats: Seats
    jobs: Jobs
    recordings: Recordings
    voices: Voices
    uploads: Uploads
    metrics: Metrics
    workers: Workers | None
    _folder: tempfile.TemporaryDirectory[str]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @staticmethod
    def open(settings: ServerSettings, studio: Studio | None = None) -> House:
        """Load everything, prepare the portraits and draw some frames: afterwards all is warm.

        Raises:
            InputError: A portrait cannot be used.
            OutputError: There is no place for files, or no key to sign them with.
            LostError: A worker did not come up.
        """
        check_size(settings.size)
        voices = Voices(settings.voices)
        provenance.marker()  # the key is made now rather than in somebody's first recording
        threads = settings.threads or machine.cores()
        studio = studio or avatar.load(threads, alone=True, helpers=settings.workers < 2)
        portraits = Portraits(studio, settings.size, settings.uploaded)
        for path in settings.portraits:
            portraits.offer(path)
        folder = tempfile.TemporaryDirectory(prefix="sfumato-", ignore_cleanup_errors=True)
        videos, recordings = Path(folder.name, "videos"), Path(folder.name, "recordings")
        videos.mkdir()
        recordings.mkdir()
        workers = None
        if settings.workers > 1:
            workers = Workers.open(settings, threads, portraits, recordings)
        house = House(
            settings=settings,
            studio=studio,
            portraits=portraits,
            seats=_seats(settings, portraits) if workers is None else workers.seats,
            jobs=Jobs(
                videos,
                waiting=settings.waiting,
                kept=settings.kept,
                longest=settings.longest,
                threads=max(1, threads - 1),  # so that a live session finds a core at once
            ),
            recordings=Recordings(recordings, settings.kept),
            voices=voices,
            uploads=Uploads(),
            metrics=Metrics(studio.crew.processes),
            workers=workers,
            _folder=folder,
        )
        _watch(house)
        return house

    def begin(self) -> None:
        """Do from now on what nobody asks for; in the loop that serves the requests."""
        self.background(self.sweep())
        if self.workers is not None:
            for worker in self.workers.all:
                self.background(self.workers.keep(worker))

    @contextlib.contextmanager
    def seat(self) -> Iterator[Process | None]:
        """A seat for a live session, given back at the end: at a worker, or None: here.

        Raises:
            FullError: There is none.
        """
        if self.workers is None:
            with self.seats.take():
                yield None
        else:
            with self.workers.seat() as process:
                yield process

    async def figures(self) -> bytes:
        """All figures, in Prometheus' text format."""
        if self.workers is None:
            return self.metrics.text()
        return self.metrics.text(await self.workers.figures())

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests; it is cancelled when the server ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def sweep(self) -> None:
        """Remove what was kept long enough, again and again."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            await asyncio.to_thread(self.jobs.sweep)
            await asyncio.to_thread(self.recordings.sweep)
            if not self.seats.taken:
                await asyncio.to_thread(give_back)
            if self.workers is not None:
                self.workers.rest()

    async def close(self) -> None:
        """End all that runs and remove all files."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self.jobs.close)
        if self.workers is not None:
            await asyncio.to_thread(self.workers.close)
        await asyncio.to_thread(self.portraits.close)
        self._folder.cleanup()


def _seats(settings: ServerSettings, portraits: Portraits) -> Seats:
    measured = carried(portraits.entry(portraits.first).avatar)
    return Seats(settings.sessions or measured)


def _watch(house: House) -> None:
    """Figures that are read off the house whenever somebody asks for them."""
    seats, watch = house.seats, house.metrics.watch
    watch("sessions_live", "Live sessions that run.", lambda: seats.taken)
    watch("sessions_allowed", "Live sessions that may run at a time.", lambda: seats.count)
    workers = house.workers
    if workers is not None:
        watch("workers", "Processes for live sessions that run.", lambda: workers.running)
    watch("portraits", "Portraits that are ready.", lambda: len(house.portraits.all()))
    watch("recordings", "Finished recordings that are kept.", house.recordings.count)

    def count(state: State) -> int:
        return house.jobs.counts()[state]

    for state in State:
        read = functools.partial(count, state)
        watch("videos", "Videos by where they stand.", read, state=state.value)
