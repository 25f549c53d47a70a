"""What is measured in every clip on its own: one file for each, made on all cores, kept."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo, watchers
from sfumato.errors import InputError
from sfumato.media.arrays import save_arrays

Rows = dict[str, NDArray[np.generic]]
# Video, its tracks, how many frames serve as photos, seed -> arrays by name.
Measure = Callable[[Path, Path, int, int], "dict[str, NDArray[np.floating]]"]


def gather(
    wanted: list[tuple[ClipInfo, int]], tracks: Path, folder: Path, measure: Measure, seed: int = 0
) -> list[Path]:
    """Measure the clips that are missing in a folder; returns its files.

    Args:
        wanted: clips, and how many of their frames serve as photos.
        measure: goes to other processes; a clip with which it fails is reported and left out.
    """
    files = {clip.name: folder / f"{clip.name.replace('/', '__')}.npz" for clip, _ in wanted}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(_write, clip, tracks, photos, measure, seed, files[clip.name])
            for clip, photos in wanted
            if not files[clip.name].exists()
        ]
        for done, job in enumerate(as_completed(jobs), 1):
            if problem := job.result():
                print(problem, flush=True)
            if done % 25 == 0 or done == len(jobs):
                print(f"measured: {done}/{len(jobs)} clips", flush=True)
    return [f for f in files.values() if f.exists()]


def read_rows(file: Path) -> Rows:
    """One file of :func:`gather`: what was measured, and ``person``."""
    with np.load(file) as stored:
        return {key: stored[key] for key in stored.files}


def split(clips: list[Rows], key: str, every: int) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Of every row of all clips, whose it is, and whether that person only validates.

    Args:
        key: of an array with as many rows as the clip has.
        every: one person in so many validates.

    Raises:
        InputError: Nothing was measured, or not of people for both.
    """
    if not clips:
        raise InputError("no measurements: label the clips by teacher.py first")
    people = np.concatenate([[str(c["person"])] * len(c[key]) for c in clips])
    watching = watchers(people.tolist(), every)
    held = np.array([person in watching for person in people])
    if held.all() or not held.any():
        raise InputError("too few people to learn from and to validate on: add clips of others")
    return people, held


def _write(
    clip: ClipInfo, tracks: Path, photos: int, measure: Measure, seed: int, out: Path
) -> str:
    """Write the measurements of one clip; returns what went wrong."""
    cv2.setNumThreads(1)
    seed += zlib.crc32(clip.name.encode())
    try:
        rows = measure(clip.path, tracks / f"{clip.name}.npz", photos, seed)
    except Exception as error:  # whatever is wrong with one clip, the others go on
        return f"{clip.name}: {error}"
    save_arrays(out, {"person": np.array(clip.person), **rows})
    return ""
