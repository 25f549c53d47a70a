"""What every training needs: batches made ahead, averaged weights, checkpoints, number formats."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")


class Loader(Generic[Batch]):
    """Batches made by threads ahead of the training step.

    Args:
        make: a batch from a random generator; called from several threads at once.
        threads: with one, the same seed gives the same batches in the same order.
    """

    def __init__(
        self, make: Callable[[np.random.Generator], Batch], seed: int, threads: int = 1
    ) -> None:
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(2 + 2 * threads)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._fill, args=(make, [seed, number]), daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def _fill(self, make: Callable[[np.random.Generator], Batch], seed: list[int]) -> None:
        rng = np.random.default_rng(seed)
        while not self._stop.is_set():
            batch: Batch | BaseException
            try:
                batch = make(rng)
            except BaseException as error:  # to be raised where the batch is taken
                batch = error
            while not self._stop.is_set():
                try:
                    self._queue.put(batch, timeout=0.5)
                    break
                except queue.Full:
                    continue
            if isinstance(batch, BaseException):
                return

    def next(self) -> Batch:
        batch = self._queue.get()
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def bfloat16_pays(loss: Callable[[], Tensor]) -> bool:
    """Whether a training step is faster in bfloat16 here: some processors have it, some fake it.

    Args:
        loss: one forward pass of a network that may be spoiled (a copy).
    """

    def seconds(half: bool) -> float:
        start = time.monotonic()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            value = loss()
        value.backward()
        return time.monotonic() - start

    # In turns, so that what else the machine does disturbs both alike.
    rounds = [(seconds(True), seconds(False)) for _ in range(4)]
    half, full = (min(times) for times in zip(*rounds, strict=True))
    return half < 0.9 * full


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Exponential moving average of all weights and statistics."""
    for ours, theirs in zip(
        average.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if ours.dtype.is_floating_point:
            ours.lerp_(theirs, 1 - keep)
        else:
            ours.copy_(theirs)


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; an interruption leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    os.replace(partial, path)
