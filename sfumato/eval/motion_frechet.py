"""How far made motion as a whole is from people's: Frechet distance of two clouds of windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sfumato.eval.motion_life import lid_opening
from sfumato.eval.motion_lips import Lips
from sfumato.latent import Motion
from sfumato.timebase import FPS

Array = NDArray[np.floating]

WINDOW, STEP = FPS, FPS // 3
LIP_DIMENSIONS = 8  # principal ones of the expert's vectors, on real clips


def windows(
    seen: Array, margin: int, motion: Motion, lips: Lips, tracks: Array
) -> tuple[Array, Array]:
    """Rows of windows of a second: mean vector of the lips (n, E), and measures (n, 10).

    Args:
        seen: (T - 2 margin, E) the expert's vectors of the lips.
    """
    opening, width = lips
    lids = lid_opening(tracks)
    lids = lids / max(float(np.median(lids)), 1e-6)
    turns = np.degrees(motion.pose[:, :3].astype(float))
    vectors, measures = [], []
    for start in range(margin, len(motion) - margin - WINDOW + 1, STEP):
        part = slice(start, start + WINDOW)
        vectors.append(seen[start - margin : start - margin + WINDOW].mean(axis=0))
        speed = np.linalg.norm(np.diff(turns[part], axis=0), axis=1)
        measures.append(
            [
                opening[part].mean(),
                opening[part].std(),
                np.abs(np.diff(opening[part])).mean(),
                width[part].std(),
                speed.mean(),
                *turns[part].std(axis=0),
                lids[part].min(),
                np.degrees(motion.gaze[part].astype(float)).std(axis=0).mean(),
            ]
        )
    return np.array(vectors).reshape(-1, seen.shape[1]), np.array(measures).reshape(-1, 10)


def frechet(one: Array, two: Array) -> float:
    """Frechet distance of two clouds (n, d), (m, d), taken as normal distributions."""
    apart = one.mean(axis=0) - two.mean(axis=0)
    first, second = (np.cov(x.T) + 1e-6 * np.eye(x.shape[1]) for x in (one, two))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ second @ root)
    both = 2 * np.sqrt(np.maximum(mixed, 0)).sum()
    return float(max(apart @ apart + np.trace(first) + np.trace(second) - both, 0.0))


def distances(
    real: Sequence[tuple[Array, Array]], made: Sequence[tuple[Array, Array]], people: Sequence[str]
) -> dict[str, float]:
    """``frechet`` of made motion, ``frechet_real`` of one half of the people against the other.

    Both compare one half of the people with the other half, so that they rest on as many windows
    and differ by as many people: ``frechet_real`` is what a perfect generator would get.

    Args:
        real, made: :func:`windows` of every clip.
        people: who is in it.
    """
    order = list(dict.fromkeys(people))
    half = np.array([order.index(person) % 2 for person in people])
    counts = [len(vectors) for vectors, _ in real]
    halves = np.repeat(half, counts)
    if min((halves == 0).sum(), (halves == 1).sum()) < 40:
        return {}
    vectors = np.concatenate([v for v, _ in real])
    measures = np.concatenate([m for _, m in real])
    middle = vectors.mean(axis=0)
    rows = np.linalg.svd(vectors - middle, full_matrices=False)[2][:LIP_DIMENSIONS].T
    size = ((vectors - middle) @ rows).std()
    centre, spread = measures.mean(axis=0), measures.std(axis=0) + 1e-9

    def cloud(clips: Sequence[tuple[Array, Array]]) -> Array:
        seen = np.concatenate([v for v, _ in clips])
        said = np.concatenate([m for _, m in clips])
        return np.c_[(seen - middle) @ rows / size, (said - centre) / spread]

    truth, copy = cloud(real), cloud(made)
    a, b = halves == 0, halves == 1
    return {
        "frechet": (frechet(truth[a], copy[b]) + frechet(truth[b], copy[a])) / 2,
        "frechet_real": frechet(truth[a], truth[b]),
    }
