"""Processes that run the live sessions of a server: one is held up by Python's lock.

The server keeps the seats of all and carries messages between its visitors and the workers
(:mod:`sfumato.server.relay`): whoever has a seat stays with its worker. A worker ends with its
server, however that ends, and is started again if it ends alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from sfumato import machine
from sfumato.server.metrics import Figures
from sfumato.server.orders import Answer, Forget, Measure, Report, Rest, Setup
from sfumato.server.portraits import Portraits, UnknownPortraitError
from sfumato.server.process import LostError, Process
from sfumato.server.seats import Seats, sessions_for
from sfumato.server.settings import ServerSettings

_LOG = logging.getLogger(__name__)
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds before one is started again; doubled every time
_SETTLED = 60.0  # seconds after which one that ends did not fail to begin
_LOOK = 10.0  # seconds between two looks after one
_ALIVE = 30.0  # seconds in which one that is well answers
_FIGURES = 2.0  # seconds in which figures must come


@dataclass
class Worker:
    """A worker and its seats.

    Attributes:
        number: from 1.
        seats: sessions that it may run; taken: that it runs.
        process: None while it is away.
    """

    number: int
    seats: int = 0
    taken: int = 0
    process: Process | None = None

    @property
    def free(self) -> int:
        """Seats that can be taken."""
        return 0 if self.process is None else self.seats - self.taken


class Workers:
    """All workers of a server, see :meth:`open`.

    Attributes:
        seats: of all that run.
        all: the workers.
    """

    def __init__(
        self, settings: ServerSettings, threads: int, portraits: Portraits, folder: Path
    ) -> None:
        count = min(settings.workers, settings.sessions or settings.workers)
        self.seats = Seats(0)
        self.all = [Worker(number) for number in range(1, count + 1)]
        self._settings = settings
        # A frame is quicker with a second core, as long as there is one that nobody needs.
        self._threads = max(min(2, threads), threads // count)
        self._portraits = portraits
        self._folder = folder
        self._running: set[Process] = set()
        self._closed = False
        self._changed = threading.Lock()  # guards the two above
        self._asked: dict[int, asyncio.Future[Figures]] = {}
        self._numbers = itertools.count()

    @staticmethod
    def open(settings: ServerSettings, threads: int, portraits: Portraits, folder: Path) -> Workers:
        """Start them all, and find out how many sessions they carry together.

        Args:
            settings: of the server.
            threads: cores for all of them.
            portraits: of the server.
            folder: where finished recordings go, with room for folders of their own.

        Raises:
            LostError: One did not come up.
        """
        workers = Workers(settings, threads, portraits, folder)
        with ThreadPoolExecutor(len(workers.all)) as pool:
            try:
                for worker, process in zip(
                    workers.all, pool.map(workers._start, workers.all), strict=True
                ):
                    worker.process = process
                workers._share(settings.sessions or sessions_for(workers._measured(pool)))
            except BaseException:
                workers.close(at_once=True)
                raise
        portraits.on_forget = workers.forget
        return workers

    @property
    def running(self) -> int:
        """Workers that run now."""
        return sum(worker.process is not None for worker in self.all)

    @contextlib.contextmanager
    def seat(self) -> Iterator[Process]:
        """A seat at the worker that has most of them, given back at the end.

        Raises:
            FullError: There is none.
        """
        with self.seats.take():
            worker = max(self.all, key=lambda worker: (worker.free, -worker.taken))
            process = worker.process
            assert process is not None  # there are no more seats than those who run have
            worker.taken += 1
            try:
                yield process
            finally:
                worker.taken -= 1

    async def keep(self, worker: Worker) -> None:
        """Serve a worker for as long as the server runs; start it again whenever it ended."""
        pause, reason = _PAUSE, ""
        while True:
            if (process := worker.process) is not None:
                began = time.monotonic()
                await self._listen(worker.number, process)
                self._set(worker, None)
                code = await asyncio.to_thread(process.end)
                with self._changed:
                    self._running.discard(process)
                pause = _PAUSE if time.monotonic() - began > _SETTLED else pause
                reason = f"ended ({code})"
            _LOG.error("worker %d %s: it is started again in %g s", worker.number, reason, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                self._set(worker, await asyncio.to_thread(self._start, worker))
            except (LostError, OSError, RuntimeError) as error:
                reason = f"cannot be started ({error})"

    async def figures(self) -> dict[int, Figures]:
        """What those who run have counted, by their numbers."""
        asked = [(w.number, w.process) for w in self.all if w.process is not None]
        told = await asyncio.gather(*(self._report(process, _FIGURES) for _, process in asked))
        return {
            number: figures
            for (number, _), figures in zip(asked, told, strict=True)
            if figures is not None
        }

    def forget(self, name: str) -> None:
        """A portrait is gone."""
        for worker in self.all:
            if worker.process is not None:
                worker.process.order(Forget(name))

    def rest(self) -> None:
        """Those who run no session have time to tidy up."""
        for worker in self.all:
            if worker.process is not None and not worker.taken:
                worker.process.order(Rest())

    def close(self, *, at_once: bool = False) -> None:
        """End them all; blocks until they have.

        Args:
            at_once: give them no time.
        """
        with self._changed:
            self._closed = True
            running = list(self._running)
        for process in running if at_once else ():
            process.kill()
        with ThreadPoolExecutor(len(self.all)) as pool:
            list(pool.map(Process.end, running))

    def _start(self, worker: Worker) -> Process:
        lady = self._portraits.entry(self._portraits.first).avatar
        setup = Setup(
            settings=self._settings,
            threads=self._threads,
            token=token_urlsafe(),
            folder=self._folder / f"worker-{worker.number}",
            recordings=self._folder,
            lady=lady.prepared,
        )
        with self._changed:
            if self._closed:
                raise LostError("the server ends")
            process = Process(setup)
            self._running.add(process)
        try:
            process.begin()
        except LostError:
            with self._changed:
                self._running.discard(process)
            raise
        return process

    def _measured(self, pool: ThreadPoolExecutor) -> float:
        """Frames a second that all draw together: at the same time, on all cores."""
        cores, count = machine.cores(), len(self.all)
        processes = [worker.process for worker in self.all if worker.process is not None]
        for number, process in enumerate(processes):
            process.order(Measure(max(1, cores // count + (number < cores % count))))
        told = list(pool.map(Process.read, processes))
        return sum(float(answer["rate"]) for answer in told if answer is not None)

    def _share(self, sessions: int) -> None:
        """Give every worker its seats; who would have none is not needed."""
        for worker in self.all[sessions:]:
            if worker.process is not None:
                worker.process.end()
        del self.all[sessions:]
        for number, worker in enumerate(self.all):
            count = len(self.all)
            worker.seats = sessions // count + (number < sessions % count)
        self.seats.resize(sessions)

    def _set(self, worker: Worker, process: Process | None) -> None:
        worker.process = process
        self.seats.resize(sum(w.seats for w in self.all if w.process is not None))

    async def _listen(self, number: int, process: Process) -> None:
        """Do what a worker asks for until it ends."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def listen() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                try:
                    while (told := process.read()) is not None:
                        loop.call_soon_threadsafe(self._told, process, told)
                finally:
                    loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=listen, name="sfumato-worker", daemon=True).start()
        looking = asyncio.create_task(self._look_after(number, process))
        try:
            await ended.wait()
        finally:
            looking.cancel()

    async def _look_after(self, number: int, process: Process) -> None:
        """End a worker that does not answer any more."""
        while True:
            await asyncio.sleep(_LOOK)
            if await self._report(process, _ALIVE) is None:
                _LOG.error("worker %d does not answer: it is ended", number)
                process.kill()

    def _told(self, process: Process, told: dict[str, Any]) -> None:
        if "wants" in told:
            process.order(self._answer(told["wants"], told["has"], told["number"]))
        elif (asked := self._asked.get(told["report"])) is not None and not asked.done():
            asked.set_result(told["figures"])

    def _answer(self, name: str, has: bool, number: int) -> Answer:
        try:
            avatar = self._portraits.entry(name).avatar
        except UnknownPortraitError:
            return Answer(number, known=False)
        return Answer(number, known=True, prepared=None if has else avatar.prepared)

    async def _report(self, process: Process, patience: float) -> Figures | None:
        """What a worker has counted; None: it does not answer."""
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        process.order(Report(number))
        try:
            return await asyncio.wait_for(self._asked[number], patience)
        except TimeoutError:
            return None
        finally:
            del self._asked[number]
