"""How well the bases explain faces of people they never saw, and what leaks between the parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.facefit import steady
from sfumato.geometry import topology as topo
from sfumato.geometry.pose import project
from sfumato.geometry.similarity import similarity
from sfumato.latent import FaceBasis, Latents, Motion
from sfumato.tracks import load_samples

Array = NDArray[np.floating]

PARTS = {
    "all": list(range(topo.N_FACE)),
    "lips": sorted(set(topo.INNER_LIPS + topo.OUTER_LIPS)),
    "lids": sorted(set(topo.LEFT_EYE + topo.RIGHT_EYE)),
}


def evaluate_latents(
    tracks: Path, index: Path | None = None, basis: FaceBasis | None = None, frames: int = 8
) -> dict[str, float]:
    """Figures of a basis on a folder of tracks (see :mod:`sfumato.tracks`).

    Reconstruction is on clips of ``split=test``, in percent of the distance of the outer eye
    corners in the picture, mean over people: ``still_*`` fits every frame alone as if it were a
    photograph, ``clip_*`` has one neutral face per clip and only expression moves. Leaks are
    measured on all clips: a ridge classifier learns people with two or more clips from one half
    of their clips and is asked about the other half.

    Args:
        tracks: Folder of tracks.
        index: ``index.tsv``; without it all tracks are test.
        basis: The shipped one by default.
        frames: Frames a clip that are fitted as photographs.
    """
    basis = basis or FaceBasis.load()
    figures: dict[str, float] = {}
    test = load_samples(tracks, index, "test" if index else "train", smooth=False)
    if not test:
        raise InputError(f"{tracks}: no tracks of the test split in it; make them with teacher.py.")
    errors: dict[str, dict[str, list[float]]] = {}
    still_ids: list[Array] = []
    for sample in test:
        row = errors.setdefault(sample.person, {})
        person, motion = basis.fit_clip(sample.frames)
        smooth = steady(sample.frames)
        _record(row, "clip", smooth, _replay(basis, person, motion))
        chosen = sample.frames[:: max(1, len(sample.frames) // frames)]
        fits = [basis.fit(f) for f in chosen]
        _record(row, "still", chosen, np.stack([_without_residual(basis, f) for f in fits]))
        still_ids.append(np.stack([f.identity for f in fits]))
    for key in next(iter(errors.values())):
        figures[key] = float(np.mean([np.mean(row[key]) for row in errors.values()]))
    figures["test_people"] = float(len(errors))
    within = np.mean([np.var(z, axis=0).mean() for z in still_ids])
    between = np.var([z.mean(axis=0) for z in still_ids], axis=0).mean()
    figures["identity_within_over_between"] = float(within / between)
    figures.update(_leaks(basis, tracks, index))
    return figures


def _replay(basis: FaceBasis, person: Latents, motion: Motion) -> Array:
    """Head-frame shapes of the clip at rest pose, (T, 478, 3) in face units."""
    still = basis.head_shape(person)
    return still + np.tensordot(motion.expression.astype(np.float64), basis.expression, axes=1)


def _without_residual(basis: FaceBasis, fit: Latents) -> Array:
    bare = Latents(fit.identity, fit.expression, fit.gaze, fit.pose, np.zeros_like(fit.residual))
    return project(basis.head_shape(bare), fit.pose)


def _record(row: dict[str, list[float]], kind: str, seen: Array, made: Array) -> None:
    """Adds errors after laying ``made`` on ``seen`` (the pose is not what is measured)."""
    laid = similarity(made, seen.astype(np.float64), (np.arange(478) < 468) * 1.0).apply(made)
    size = np.linalg.norm(seen[:, 33] - seen[:, 263], axis=1)[:, None]
    error = 100 * np.linalg.norm((laid - seen)[..., :2], axis=-1) / size
    for part, points in PARTS.items():
        row.setdefault(f"{kind}_{part}", []).append(float(error[:, points].mean()))


def _leaks(basis: FaceBasis, tracks: Path, index: Path | None) -> dict[str, float]:
    clips: dict[str, list[tuple[Array, Array]]] = {}
    for split in ("train", "test") if index else ("train",):
        for sample in load_samples(tracks, index, split, smooth=False):
            person, motion = basis.fit_clip(sample.frames)
            dynamics = np.c_[motion.expression, motion.gaze]
            clips.setdefault(sample.person, []).append((person.identity, dynamics))
    people = [p for p, c in clips.items() if len(c) >= 2]
    train, test = [], []
    for label, name in enumerate(people):
        for number, (identity, dynamics) in enumerate(clips[name]):
            (train if number % 2 == 0 else test).append((label, identity, dynamics))
    out = {"leak_people": float(len(people)), "leak_chance": 1 / max(1, len(people))}
    for name, rows in (
        ("leak_frame", lambda c: c[2]),
        ("leak_clip_mean", lambda c: c[2].mean(axis=0)[None]),
        ("leak_clip_statistics", lambda c: np.r_[c[2].mean(axis=0), c[2].std(axis=0)][None]),
        ("identity_clip", lambda c: c[1][None]),
    ):
        x, y = _stack([(c[0], rows(c)) for c in train])
        xt, yt = _stack([(c[0], rows(c)) for c in test])
        out[name] = classify(x, y, xt, yt, len(people))
    return out


def _stack(parts: list[tuple[int, Array]]) -> tuple[Array, NDArray[np.intp]]:
    labels = np.concatenate([np.full(len(rows), label) for label, rows in parts])
    return np.concatenate([rows for _, rows in parts]), labels


def classify(x: Array, y: NDArray[np.intp], xt: Array, yt: NDArray[np.intp], n: int) -> float:
    """Balanced accuracy (mean recall over classes) of a linear discriminant."""
    means = np.stack([x[y == k].mean(axis=0) for k in range(n)])
    spread = x - means[y]
    covariance = spread.T @ spread / max(1, len(x) - n)
    between = np.cov(means.T)
    covariance += 0.05 * between + 1e-6 * np.trace(between) / len(between) * np.eye(len(between))
    w = np.linalg.solve(covariance, means.T)
    scores = xt @ w - 0.5 * np.einsum("kd,dk->k", means, w)
    right = scores.argmax(axis=1) == yt
    return float(np.mean([right[yt == k].mean() for k in range(n) if (yt == k).any()]))
