"""How well the face encoder agrees with its teacher on pictures that it never saw."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.geometry import topology
from sfumato.geometry.crop import face_square
from sfumato.geometry.distances import eye_distance
from sfumato.landmarks import Face, FaceEncoder
from sfumato.media.image import load_image

Floats = NDArray[np.floating]


def landmark_error(ours: Floats, theirs: Floats) -> Floats:
    """Distance (478,) of each landmark in the picture, in outer-eye distances of ``theirs``."""
    return np.linalg.norm(ours[:, :2] - theirs[:, :2], axis=1) / eye_distance(theirs[:, :2])


def _same_face(faces: list[Face], theirs: Floats) -> Face | None:
    """The found face that lies where the teacher's does."""
    target = face_square(theirs)
    for face in faces:
        square = face_square(face.landmarks)
        if np.hypot(square.x - target.x, square.y - target.y) < 0.35 * target.side:
            return face
    return None


def evaluate_face(stills: Path, labels: Path, split: str = "test") -> dict[str, dict[str, float]]:
    """Mean landmark error (per cent of the outer-eye distance) and share of faces found, by style.

    Args:
        stills: folder of the pictures; ``labels``: the teacher's, written by ``train/teacher.py``.

    Returns:
        style -> ``count``, ``found`` (share of the teacher's faces), ``error``, ``error_median``,
        ``lips``, ``lids`` and ``irises`` (per cent).

    Raises:
        InputError: No labels, or none of pictures of this split.
    """
    encoder = FaceEncoder.load()
    try:
        data = dict(np.load(labels, allow_pickle=False))
        mine = np.flatnonzero(data["split"] == split)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{labels} holds no labels by teacher.py: {error}") from error
    if not len(mine):
        raise InputError(f"{labels}: no picture of split={split}; an index.tsv beside them says it")
    lips, lids = (
        list(topology.OUTER_LIPS + topology.INNER_LIPS),
        list(topology.LEFT_EYE + topology.RIGHT_EYE),
    )
    errors: dict[str, list[Floats]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for number in mine:
        theirs = data["landmarks"][number]
        if not np.isfinite(theirs[0, 0]):
            continue
        style = str(data["style"][number])
        counts[style] += 1
        image = load_image(stills / str(data["files"][number]))
        face = _same_face(encoder.faces(image), theirs)
        if face is not None:
            errors[style].append(landmark_error(face.landmarks, theirs))
    result = {}
    for style, count in sorted(counts.items()):
        rows = np.array(errors[style]) * 100 if errors[style] else np.full((1, 478), np.nan)
        result[style] = {
            "count": count,
            "found": len(errors[style]) / count,
            "error": float(rows.mean()),
            "error_median": float(np.median(rows.mean(1))),
            "lips": float(rows[:, lips].mean()),
            "lids": float(rows[:, lids].mean()),
            "irises": float(rows[:, topology.N_FACE :].mean()),
        }
    return result
