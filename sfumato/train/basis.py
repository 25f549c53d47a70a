"""Learns the two shape bases from tracked faces: what differs between people, what moves.

Tracks are what ``sfumato/train/teacher.py`` writes: ``.npz`` files with ``landmarks``
(T, 478, 3) in pixels (NaN: no face) in any folders, and optionally one file of stills. Steps:

1. every frame is laid on the mean face by its rigid points (similarity, face units);
2. a clip's *neutral* is the median of its frames with nearly closed, relaxed lips and open eyes;
3. deviations from the neutral, from all clips and mirrored, give the expression basis: first
   named axes (regression on one measure each, then taken out), the rest principal components;
4. neutrals without their expression, from clips and stills, give the identity basis.

Steps 2 to 4 are repeated with the fit of the last round, which takes out what a clip's neutral
still has of expression (a person who smiles in all frames) and how landmarks err with the pose.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.contact import Contacts
from sfumato.corpus import cleared_pictures
from sfumato.errors import InputError
from sfumato.facefit import neutral_frames, pose_terms, shape_fit_weights
from sfumato.geometry import topology as topo
from sfumato.geometry.rotation import angles
from sfumato.geometry.similarity import similarity
from sfumato.latent import N_EXPRESSION, N_IDENTITY, FaceBasis
from sfumato.media.files import require_file
from sfumato.tracks import Sample, load_samples
from sfumato.train.axes import named_axes, principal

Array = NDArray[np.floating]

N = topo.N_POINTS
ROUNDS = 3
# Head turns beyond this (radians) teach nothing: half of the landmarks are guesses.
MAX_TURN = 0.6


def mirrored(shapes: Array) -> Array:
    """Shapes (..., 478, 3) mirrored left to right."""
    out: Array = shapes[..., topo.MIRROR, :] * np.array([-1.0, 1.0, 1.0])
    return out


def mean_face(shapes: Array) -> Array:
    """Generalised Procrustes mean of shapes (n, 478, 3): symmetric, frontal, in face units."""
    rigid = list(topo.RIGID)
    mean = shapes[0]
    for _ in range(4):
        mean = mean - mean[rigid].mean(axis=0)
        mean = mean / np.linalg.norm(mean[33] - mean[263])
        fit = similarity(mean[rigid], shapes[:, rigid], np.ones(len(rigid)))
        laid = fit.undo(shapes)
        mean = np.median(laid, axis=0)
        flip = mirrored(mean)
        mean = (mean + similarity(flip, mean[None], np.ones(N)).apply(flip[None])[0]) / 2
    # Frontal: the mirror axis becomes x, and the median pitch and yaw of all shapes become zero.
    axis = (mean[263] - mean[33]) / np.linalg.norm(mean[263] - mean[33])
    down = np.array([0.0, 1.0, 0.0]) - axis[1] * axis
    down /= np.linalg.norm(down)
    mean = mean @ np.stack([axis, down, np.cross(axis, down)]).T
    fit = similarity(mean[rigid], shapes[:, rigid], np.ones(len(rigid)))
    pitch = np.median([angles(r)[1] for r in fit.rotation])
    c, s = np.cos(pitch), np.sin(pitch)
    mean = mean @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T
    mean = mean - mean[rigid].mean(axis=0)
    mean = (mean + mirrored(mean)) / 2
    return mean / np.linalg.norm(mean[33] - mean[263])


def lay(frames: Array, mean: Array) -> tuple[Array, Array]:
    """Frames on the mean face: shapes (T, 478, 3) in face units and angles (T, 3)."""
    rigid = list(topo.RIGID)
    fit = similarity(mean[rigid], frames[:, rigid].astype(np.float64), np.ones(len(rigid)))
    turns = np.array([angles(r) for r in fit.rotation])
    return fit.undo(frames), turns


def close_lips(shapes: Array) -> Array:
    """Shapes (..., 478, 3) whose inner lips touch: both of a pair move to their middle."""
    out = shapes.copy()
    upper, lower = list(topo.INNER_LIPS_UPPER), list(topo.INNER_LIPS_LOWER)
    middle = (out[..., upper, :] + out[..., lower, :]) / 2
    out[..., upper, :] = middle
    out[..., lower, :] = middle
    return out


def no_iris(rows: Array) -> Array:
    """Rows (n, 478, 3) with the irises set to zero: gaze is no expression."""
    out = rows.copy()
    out[..., topo.N_FACE :, :] = 0
    return out


def learn_expression(
    shapes: list[Array], samples: list[Sample], mean: Array
) -> tuple[Array, Array]:
    """Expression basis (N_EXPRESSION, 478, 3) and the explained shares of the components.

    Deviations are from the mean of the clip, so no difference between people enters.
    """
    rows = np.concatenate([s - s.mean(axis=0) for s in shapes])
    weights = np.concatenate(
        [np.full(len(s), x.weight) for s, x in zip(shapes, samples, strict=True)]
    )
    rows = no_iris(rows).astype(np.float32)
    size = np.sqrt((rows**2).mean(axis=(1, 2)))
    weights = weights / np.maximum(1, (size / np.quantile(size, 0.98)) ** 2)  # broken frames
    rows = np.concatenate([rows, mirrored(rows).astype(np.float32)]).reshape(2 * len(rows), -1)
    weights = np.concatenate([weights, weights]).astype(np.float32)
    axes, rest = named_axes(rows, weights, mean)
    metric = np.repeat(shape_fit_weights(), 3) * np.tile([1.0, 1.0, 0.3], N)
    count = N_EXPRESSION - len(axes)
    components, shares = principal(rest, weights, metric, count)
    return np.concatenate([np.stack(axes), components]).reshape(-1, N, 3), shares


def learn_identity(neutrals: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Mean (478, 3) with closed lips, identity basis (N_IDENTITY, 478, 3), explained shares."""
    closed = close_lips(neutrals)
    both = np.concatenate([closed, mirrored(closed)])
    w = np.concatenate([weights, weights])
    mean = np.average(both, axis=0, weights=w)
    rows = no_iris(both - mean).reshape(len(both), -1)
    metric = np.repeat(np.sqrt(shape_fit_weights()), 3) * np.tile([1.0, 1.0, 0.5], N)
    components, shares = principal(rows, w, metric, N_IDENTITY)
    return mean, components.reshape(-1, N, 3), shares


def train_basis(
    tracks: Path,
    out: Path,
    index: Path | None = None,
    stills: Path | None = None,
    rounds: int = ROUNDS,
    pictures: Path | None = None,
    cleared: bool = False,
) -> dict[str, float]:
    """Learns the bases from a folder of tracks and writes them.

    Args:
        tracks: Folder with ``.npz`` tracks, any layout.
        out: ``basis.npz`` to write.
        index: ``index.tsv`` of the corpus (``clip``, ``split``, ``person``); only ``train`` is
            read. Without it every folder below ``tracks`` counts as one person.
        stills: ``stills.npz`` of the teacher; photographs of ``train`` add identities.
        rounds: Passes of neutrals, expression, identity; the first one ignores the stills.
        pictures: Folder of the stills with its index; only ``cleared`` needs it.
        cleared: Only clips and stills with a cleared licence (:mod:`sfumato.corpus`).

    Returns:
        Figures: clips, people, frames, variance explained by each basis.
    """
    if cleared and (index is None or (stills is not None and pictures is None)):
        raise InputError(
            "--cleared needs to know the licences: give --index, and --pictures with --stills."
        )
    samples = load_samples(tracks, index, cleared=cleared)
    if not samples:
        raise InputError(
            f"no tracks of 8 or more frames with a face below {tracks}: label clips first"
        )
    photos = load_stills(stills, cleared_pictures(pictures) if cleared and pictures else None)
    mean = mean_face(np.stack([np.median(s.frames, axis=0) for s in samples]))
    basis: FaceBasis | None = None
    figures: dict[str, float] = {}
    for _ in range(rounds):
        basis, figures = one_round(samples, photos, mean, basis)
        mean = basis.mean
    assert basis is not None
    basis.save(out)
    return figures


def load_stills(path: Path | None, allowed: set[str] | None = None) -> Array:
    """Landmarks (n, 478, 3) of the training photographs; ``allowed``: only these files."""
    if path is None:
        return np.zeros((0, N, 3))
    require_file(path, "labels of stills")
    with np.load(path, allow_pickle=False) as stored:
        keep = (stored["split"] == "train") & np.isin(stored["style"], ["photo", "bw"])
        if allowed is not None:
            keep &= np.isin(stored["files"], list(allowed))
        points = stored["landmarks"][keep].astype(np.float64)
    return points[np.isfinite(points).all(axis=(1, 2))]


def one_round(
    samples: list[Sample], photos: Array, mean: Array, basis: FaceBasis | None
) -> tuple[FaceBasis, dict[str, float]]:
    """One pass of neutrals, expression, identity; ``basis`` is the last round's result."""
    laid, turns = zip(*(lay(s.frames, mean) for s in samples), strict=True)
    bias = np.zeros((5, N, 3)) if basis is None else basis.pose_bias
    shapes, neutrals, use, phases = [], [], [], []
    for sample, shape, turn in zip(samples, laid, turns, strict=True):
        keep = (np.abs(turn[:, :2]) < MAX_TURN).all(axis=1)
        if keep.sum() < 8:
            continue
        straight = shape[keep] - np.tensordot(pose_terms(turn[keep]), bias, axes=1)
        rest = neutral_frames(straight)
        neutral = np.median(straight[rest], axis=0)
        if basis is not None:
            neutral = neutral - basis.expression_of_neutral(neutral)
        shapes.append(straight)
        neutrals.append(neutral)
        use.append(sample)
        phases.append(pose_terms(turn[keep]) - pose_terms(turn[keep][rest]).mean(axis=0))
    more = keep_openings(learn_pose_bias(shapes, neutrals, phases), mean)
    bias = bias + more
    shapes = [s - np.tensordot(p, more, axes=1) for s, p in zip(shapes, phases, strict=True)]
    expression, shares = learn_expression(shapes, use, mean)
    people, weights = people_of(neutrals, use)
    if basis is not None and len(photos):
        faces, turn = lay(photos, mean)
        keep = (np.abs(turn[:, :2]) < 0.4).all(axis=1)
        faces = faces[keep] - np.tensordot(pose_terms(turn[keep]), bias, axes=1)
        faces = faces - np.stack([basis.expression_of_still(f) for f in faces])
        people = np.concatenate([people, faces])
        weights = np.concatenate([weights, np.full(len(faces), 0.3)])
    new_mean, identity, id_shares = learn_identity(people, weights)
    new_mean = new_mean - new_mean[list(topo.RIGID)].mean(axis=0)
    new_mean = new_mean / np.linalg.norm(new_mean[33] - new_mean[263])
    learned = FaceBasis(
        mean=(new_mean + mirrored(new_mean)) / 2,
        identity=identity,
        expression=expression,
        pose_bias=bias,
        habit=np.zeros(N_EXPRESSION),
    )
    learned = replace(learned, habit=learn_habit(learned, shapes, neutrals))
    return learned, {
        "clips": float(len(use)),
        "people": float(len({s.person for s in use})),
        "frames": float(sum(map(len, shapes))),
        "stills": float(len(people) - len({s.person for s in use})),
        "expression_rest_explained": float(shares.sum()),
        "identity_explained": float(id_shares.sum()),
    }


def people_of(neutrals: list[Array], samples: list[Sample]) -> tuple[Array, Array]:
    """Mean neutral of every person (n, 478, 3) and weights (n,)."""
    table: dict[str, list[Array]] = {}
    for neutral, sample in zip(neutrals, samples, strict=True):
        table.setdefault(sample.person, []).append(neutral)
    return np.stack([np.median(v, axis=0) for v in table.values()]), np.ones(len(table))


def learn_pose_bias(shapes: list[Array], neutrals: list[Array], phases: list[Array]) -> Array:
    """How landmarks err with the pose, (5, 478, 3): ridge regression within clips."""
    rows = np.concatenate([s - n for s, n in zip(shapes, neutrals, strict=True)])
    x = np.concatenate(phases)
    gram = x.T @ x + 1e-4 * len(x) * np.eye(x.shape[1])
    bias: Array = np.linalg.solve(gram, x.T @ rows.reshape(len(rows), -1))
    return bias.reshape(-1, N, 3)


def learn_habit(basis: FaceBasis, shapes: list[Array], neutrals: list[Array]) -> Array:
    """Mean over clips of the clip's median expression (N_EXPRESSION,): talking against resting."""
    middles = [
        np.median(basis.expression_of(s - n), axis=0) for s, n in zip(shapes, neutrals, strict=True)
    ]
    habit: Array = np.mean(middles, axis=0)
    return habit


def keep_openings(bias: Array, mean: Array) -> Array:
    """The pose bias (5, 478, 3) without any move of lips or lids against each other.

    Within clips the mouth opens in step with nods; extrapolated to the pose of a photograph that
    would pass for an error of the landmarks and open or close the mouth.
    """
    out = bias.copy()
    rig = Contacts.of(mean)
    for term in out:
        for rim in (rig.lips, *rig.lids):
            rim.impose(term, np.zeros((len(rim.upper), 3)), 0.5)
    return out
