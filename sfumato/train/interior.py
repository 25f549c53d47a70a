"""``sfumato train interior``: what mouths show that their landmarks do not tell.

``cache/interior/<name>.npz`` holds the looks of a clip (:class:`sfumato.interior.Look`); the axes
are learned from real clips of the training split, and everybody's codes are read off the looks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo, read_index
from sfumato.errors import InputError
from sfumato.interior import InteriorAxes, Look, freed, look
from sfumato.media.arrays import save_arrays
from sfumato.media.video import VideoReader
from sfumato.motionfile import N_INTERIOR

Array = NDArray[np.float32]

LEAST_OPEN = 12.0  # frames with an open mouth that a clip must have to teach
RIDGE = 1e-4


def cache_looks(clips: Iterable[ClipInfo], tracks: Path, cache: Path) -> None:
    """Writes ``cache/interior/<name>.npz`` for clips with tracks; what exists is kept."""
    cv2.setNumThreads(1)
    wanted = [c for c in clips if (tracks / f"{c.name}.npz").exists()]
    missing = [c for c in wanted if not _file(cache, c.name).exists()]
    start = time.monotonic()
    for done, clip in enumerate(missing, 1):
        with np.load(tracks / f"{clip.name}.npz") as stored:
            landmarks = stored["landmarks"]
        with VideoReader(clip.path) as reader:
            looks = [look(image, points) for image, points in zip(reader, landmarks, strict=False)]
        target = _file(cache, clip.name)
        save_arrays(
            target,
            {k: np.array([getattr(o, k) for o in looks]) for k in ("light", "shape", "share")},
        )
        if done % 200 == 0 or done == len(missing):
            left = (time.monotonic() - start) / done * (len(missing) - done)
            print(f"mouths: {done}/{len(missing)} clips, {left:.0f} s left", flush=True)


def cached_looks(cache: Path, name: str) -> list[Look] | None:
    """The looks of a clip, or None where there are none."""
    path = _file(cache, name)
    if not path.exists():
        return None
    with np.load(path) as stored:
        rows = zip(stored["light"], stored["shape"], stored["share"].tolist(), strict=True)
        return [Look(*row) for row in rows]


def _file(cache: Path, name: str) -> Path:
    return cache / "interior" / f"{name}.npz"


def fit_axes(clips: Sequence[tuple[str, Sequence[Look]]]) -> tuple[InteriorAxes, dict[str, float]]:
    """Axes of (person, looks) of clips, every person by the square root of their frames.

    Returns:
        The axes, and what share of the light's variance shape explains, and each axis of the rest.

    Raises:
        InputError: Nobody opens the mouth for long enough.
    """
    rows, people = [], []
    for person, looks in clips:
        light, shape, share = (
            np.array([getattr(o, k) for o in looks]) for k in ("light", "shape", "share")
        )
        if share.sum() >= LEAST_OPEN:
            rows.append((freed(light, share), freed(shape, share), share))
            people += [person] * len(looks)
    if not rows:
        raise InputError("no clip shows an open mouth for long enough: give more clips")
    light, shape, share = (
        np.concatenate(column).astype(np.float64) for column in zip(*rows, strict=True)
    )
    count = Counter(people)
    weight = share / np.sqrt([count[p] for p in people])
    weight /= weight.sum()
    gram = shape.T @ (shape * weight[:, None])
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    usual = np.linalg.solve(gram, shape.T @ (light * weight[:, None]))
    rest = light - shape @ usual
    covariance = rest.T @ (rest * weight[:, None])
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    axes = vectors[:, :N_INTERIOR] / np.sqrt(values[:N_INTERIOR])
    # More of the first is lighter; of the others, lighter where they say most.
    signs = np.sign(axes.sum(axis=0))
    signs[1:] = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(N_INTERIOR)])[1:]
    total = float((weight @ light**2).sum())
    figures = {"explained by shape": 1.0 - float(values.sum()) / total}
    figures |= {
        f"axis {k + 1} of the rest": float(values[k] / values.sum()) for k in range(N_INTERIOR)
    }
    return InteriorAxes(usual.astype(np.float32), (axes * signs).astype(np.float32)), figures


def train_interior(
    clips: Path, tracks: Path, cache: Path, out: Path, cleared: bool = False
) -> dict[str, float]:
    """Learns the axes and writes them to ``out``; returns figures as :func:`fit_axes`."""
    infos = [c for c in read_index(clips, cleared) if c.teaches and c.kind == "real"]
    cache_looks(infos, tracks, cache)
    found = [(c.person, looks) for c in infos if (looks := cached_looks(cache, c.name))]
    axes, figures = fit_axes(found)
    save_arrays(out, {"usual": axes.usual, "axes": axes.axes}, packed=True)
    return figures
