"""The one mesh of face, hair, ears, neck and torso, and how it follows the head.

The 468 face points are its middle. Around them rings of vertices run from the face oval to beyond
the picture, so that nothing can tear. A ring vertex moves with the head (rigidly, with the depth
of the skull's outline) as much as its weight says: fully around the head, hardly at the shoulders.
What expression does to the oval (the jaw that drops) fades out over the first rings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import rotation, topology
from sfumato.geometry.ramp import smoothstep
from sfumato.geometry.sight import hidden, relaxed
from sfumato.latent import Pose

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

# Distances of the rings from the oval in face heights; the last ring lies beyond the picture.
_RINGS = (0.05, 0.11, 0.18, 0.27, 0.38, 0.52, 0.70, 0.95)
_SHOULDERS = 0.08  # how much of the head's motion the torso takes
_FADE = 0.28  # face heights over which an expression fades outside the oval
_STEEPEST = 1.1  # slope of depth against the picture plane
_BEHIND = 0.008  # face heights behind what is seen from which on a point is out of sight
_LEAST_ADVANCE = 0.3  # how far a ring may be squeezed towards the one inside it
_BREATH = 0.012  # lift of the chest in face heights
# Vertices between lid and brow next to the brow; the points of its lower edge on either side of
# each, and how near the second is. A raised brow takes this strip along, stretched at most so far.
_UNDER = np.array([225, 224, 223, 222, 221, 445, 444, 443, 442, 441])
_BROWS = np.array(
    [[53, 53, 52, 65, 65, 283, 283, 282, 295, 295], [53, 52, 52, 65, 55, 283, 282, 282, 295, 285]]
)
_NEARER = np.array([0.0, 0.46, 0.0, 0.0, 0.66] * 2, np.float32)[:, None]
_STRETCHED = 1.1

N_VERTICES = topology.N_FACE + len(topology.FACE_OVAL) * (len(_RINGS) + 1)


@dataclass(frozen=True)
class Mesh:
    """Rest shape of the person in canvas pixels.

    Attributes:
        vertices: (V, 3); the first 468 are the face points.
        triangles: (T, 3), covers the canvas and its margin without holes.
        weights: (V - 468,) share of the head's rigid motion, 0..1.
        spread: (V - 468, 36) share of the oval points' own displacement.
        excess: (478,) depth that was taken off the landmarks, pixels (see :func:`flatten`).
        folded: (468, 3) what was taken off face points out of sight, pixels (see :func:`deform`).
        height: face height in pixels.
    """

    vertices: Floats
    triangles: Ints
    weights: Floats
    spread: Floats
    excess: Floats
    folded: Floats
    height: float


def build(landmarks: Floats, size: int, margin: float) -> Mesh:
    """Mesh around a face.

    Args:
        landmarks: (478, 3) canvas pixels.
        size: side of the canvas.
        margin: width in pixels of the rim beyond the canvas that must be covered too.
    """
    height = float(np.linalg.norm(landmarks[10] - landmarks[topology.CHIN]))
    excess = _excess_depth(landmarks)
    face = landmarks[: topology.N_FACE].copy()
    behind = hidden(face, topology.TRIANGLES, _BEHIND * height)
    face[:, 2] -= excess[: topology.N_FACE]
    folded = face - relaxed(face, topology.TRIANGLES, behind)
    face -= folded
    oval = face[list(topology.FACE_OVAL)]
    centre = oval.mean(axis=0)
    skull = float(face[[127, 356, 234, 454], 2].mean()) + 0.05 * height
    corners = np.array([[-margin, -margin], [size + margin, size + margin]])
    reach = 1.1 * float(np.hypot(*np.abs(corners - centre[:2]).max(axis=0)))
    up = np.arctan2(*(oval[0, :2] - centre[:2])[::-1])
    angle = up + np.arange(len(oval)) * (2 * np.pi / len(oval))
    border = centre[:2] + reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    way = border - oval[:, :2]
    length = np.linalg.norm(way, axis=1)
    rings, distances = [], []
    for ring in (*_RINGS, None):
        distance = length if ring is None else np.minimum(ring * height, 0.98 * length)
        xy = oval[:, :2] + way * (distance / length)[:, None]
        slope = 1.5 * np.maximum(skull - oval[:, 2], 0.1 * height) / _STEEPEST
        depth = _between(distance, 0.0, slope)
        rings.append(np.column_stack([xy, oval[:, 2] + (skull - oval[:, 2]) * depth]))
        distances.append(distance / height)
    outer = np.concatenate(rings)
    return Mesh(
        vertices=np.concatenate([face, outer]).astype(np.float32),
        triangles=_triangles(len(rings)),
        weights=_weights(outer, centre, float(face[topology.CHIN, 1]), height),
        spread=_spread(np.stack(distances)),
        excess=excess,
        folded=folded,
        height=height,
    )


def flatten(mesh: Mesh, rest: Pose, target: Pose, landmarks: Floats) -> Floats:
    """Landmarks (478, 3) of the target as they turn with a flatter face.

    Where the face curves away from the viewer a few pixels of the photo hold a wide strip of skin.
    Turned towards the viewer at full depth they would smear, and on the other side fold over.
    """
    turn, _ = _rigid(rest, target)
    result: Floats = landmarks - mesh.excess[:, None] * turn[:, 2]
    return result


def deform(
    mesh: Mesh, rest: Pose, target: Pose, landmarks: Floats, slide: Floats, breath: float
) -> tuple[Floats, Floats]:
    """The face's points and all vertices for target landmarks, head pose and breath (0..1).

    What the photo hides, behind a nose or lips that are turned, has no pixels: in the mesh it would
    show those of what hides it. There it goes between its neighbours, and turns as if it were so.

    Args:
        landmarks: (478, 3).
        slide: (V, 2) pixels by which the skin lies elsewhere than mesh and landmarks say.

    Returns:
        Face points (468, 3) and vertices (V, 3), which differ in what the photo hides.
    """
    turn, shift = _rigid(rest, target)
    folded = mesh.folded @ turn.T
    face = landmarks[: topology.N_FACE] - folded
    outer = mesh.vertices[topology.N_FACE :]
    oval = list(topology.FACE_OVAL)
    own = face[oval] - (mesh.vertices[oval] @ turn.T + shift)
    moved = mesh.weights[:, None] * (outer @ turn.T + shift - outer) + mesh.spread @ own
    moved[:, 1] -= breath * _BREATH * mesh.height * (1 - mesh.weights)
    face[:, :2] += slide[: topology.N_FACE]
    moved[:, :2] += slide[topology.N_FACE :]
    _keep_brows_whole(mesh.vertices, face, target.scale / rest.scale)
    rings = _unfolded(mesh.vertices[oval], outer, face[oval], outer + moved)
    return face + folded, np.concatenate([face, rings]).astype(np.float32)


def _keep_brows_whole(rest: Floats, face: Floats, zoom: float) -> None:
    """Let raised brows take along the strip of skin under them, in place, as they do.

    Between brow and lid the model stretches evenly: where eyes lie deep, the brow's own hair would
    be drawn out to twice its height. What a raised brow reveals lies next to the lid.

    Args:
        rest: (V, 3) vertices of the photo; ``face``: (468, 3) of the frame.
        zoom: how much larger the head is in the frame.
    """
    reach = _STRETCHED * zoom * np.linalg.norm(rest[_UNDER, :2] - _lower_edges(rest), axis=1)
    edges = _lower_edges(face)
    away = face[_UNDER, :2] - edges
    share = np.minimum(reach / np.maximum(np.linalg.norm(away, axis=1), 1e-6), 1)
    face[_UNDER, :2] = edges + share[:, None] * away


def _lower_edges(vertices: Floats) -> Floats:
    """Points (10, 2) of the brows' lower edges above the vertices under them."""
    first, second = vertices[_BROWS, :2]
    return np.asarray(first + _NEARER * (second - first))


def _unfolded(rest_oval: Floats, rest: Floats, oval: Floats, outer: Floats) -> Floats:
    """Push every ring outwards where it would slide under the one before it.

    A real chin hides the neck behind a sharp edge; one sheet of pixels looks better squeezed.
    """
    count = len(oval)
    inner = np.concatenate([rest_oval, rest[:-count]])
    way = rest[:, :2] - inner[:, :2]
    length = np.sqrt((way * way).sum(axis=1))
    way /= length[:, None]
    result = outer.copy()
    before = oval[:, :2]
    for start in range(0, len(outer), count):
        part = slice(start, start + count)
        ring = result[part, :2]
        advance = ((ring - before) * way[part]).sum(axis=1)
        ring += way[part] * np.maximum(_LEAST_ADVANCE * length[part] - advance, 0)[:, None]
        before = ring
    return result


def _rigid(rest: Pose, target: Pose) -> tuple[Floats, Floats]:
    """The head's motion as ``x -> turn @ x + shift`` in canvas pixels."""
    before = rotation.matrix(rest.yaw, rest.pitch, rest.roll)
    after = rotation.matrix(target.yaw, target.pitch, target.roll)
    turn = (target.scale / rest.scale) * after @ before.T
    shift = np.array([target.x, target.y, 0]) - turn @ np.array([rest.x, rest.y, 0])
    return turn.astype(np.float32), shift.astype(np.float32)


def _excess_depth(landmarks: Floats) -> Floats:
    """Depth (478,) beyond what a slope of _STEEPEST from every other face point allows."""
    face = landmarks[: topology.N_FACE]
    apart = np.linalg.norm(face[:, None, :2] - face[None, :, :2], axis=2)
    soft = (face[:, 2] + _STEEPEST * apart).min(axis=1)
    excess = np.zeros(topology.N_POINTS, np.float32)
    excess[: topology.N_FACE] = face[:, 2] - soft
    for eye, iris in (
        (topology.LEFT_EYE, topology.LEFT_IRIS),
        (topology.RIGHT_EYE, topology.RIGHT_IRIS),
    ):
        excess[list(iris)] = excess[list(eye)].mean()
    return excess


def _triangles(rings: int) -> Ints:
    """Face triangles, the closed-over eyes and mouth, and the strips between the rings."""
    t = topology
    strips = [
        _strip(t.INNER_LIPS_UPPER, t.INNER_LIPS_LOWER),
        _strip(t.LEFT_EYE_UPPER, t.LEFT_EYE_LOWER),
        _strip(t.RIGHT_EYE_UPPER, t.RIGHT_EYE_LOWER),
    ]
    count = len(t.FACE_OVAL)
    inner = [*t.FACE_OVAL, t.FACE_OVAL[0]]
    for ring in range(rings):
        ids = t.N_FACE + ring * count + np.append(np.arange(count), 0)
        strips.append(_strip(inner, ids))
        inner = list(ids)
    return np.concatenate([t.TRIANGLES, *strips]).astype(np.int32)


def _strip(first: NDArray[np.int64] | list[int] | tuple[int, ...], second: object) -> Ints:
    """Triangles between two rows of vertices with as many points; shared ends collapse."""
    a, b = np.asarray(first), np.asarray(second)
    pairs = np.concatenate(
        [np.column_stack([a[:-1], a[1:], b[:-1]]), np.column_stack([b[:-1], a[1:], b[1:]])]
    )
    distinct = (pairs[:, 0] != pairs[:, 1]) & (pairs[:, 1] != pairs[:, 2])
    result: Ints = pairs[distinct & (pairs[:, 0] != pairs[:, 2])].astype(np.int32)
    return result


def _weights(outer: Floats, centre: Floats, chin: float, height: float) -> Floats:
    """Share of the head's motion: falls below the chin, sooner at the shoulders, and far away."""
    away = (outer - centre)[:, :2] / height
    shoulder = 0.6 * np.maximum(np.abs(away[:, 0]) - 0.45, 0)
    below = _between((outer[:, 1] - chin) / height + shoulder, -0.02, 0.62)
    far = _between(np.linalg.norm(away, axis=1), 1.0, 1.6)
    return ((1 - (1 - _SHOULDERS) * below) * (1 - far)).astype(np.float32)


def _spread(distances: Floats) -> Floats:
    """(rings x 36, 36): every ring vertex follows the oval near it, the less the farther."""
    rings, count = distances.shape
    apart = np.abs(np.arange(count)[:, None] - np.arange(count))
    apart = np.minimum(apart, count - apart)
    rows = []
    for ring in range(rings):
        width = 0.6 + 10.0 * distances[ring][:, None]
        near = np.exp(-0.5 * (apart / width) ** 2)
        fade = np.exp(-((distances[ring] / _FADE) ** 2))[:, None]
        rows.append(fade * near / near.sum(axis=1, keepdims=True))
    return np.concatenate(rows).astype(np.float32)


def _between(x: Floats, low: float, high: float) -> Floats:
    return smoothstep((x - low) / (high - low))
