"""Small tools for fitting faces: smoothing, weights, measures, the choice of neutral frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import NoFaceError
from sfumato.geometry import topology as topo
from sfumato.geometry.distances import eye_distance
from sfumato.motionfile import EXPRESSION_NAMES

Array = NDArray[np.floating]

# Share of the eyes' distance by which tracked landmarks jitter while a face is still, at most.
_JITTER = 0.004
_LIPS = [*topo.OUTER_LIPS, *topo.INNER_LIPS]
_EYES = [[*topo.LEFT_EYE, *topo.LEFT_IRIS], [*topo.RIGHT_EYE, *topo.RIGHT_IRIS]]
_REST = sorted(set(range(topo.N_POINTS)) - {*_LIPS, *_EYES[0], *_EYES[1]})
_PARTS = (_LIPS, *_EYES, _REST)


def blur_in_time(frames: Array) -> Array:
    """Zero-phase smoothing along the first axis that keeps peaks (blinks, closures).

    A quadratic least-squares fit over 5 frames (Savitzky and Golay, Anal. Chem. 36, 1964).
    """
    if len(frames) < 5:
        return frames
    padded = np.concatenate([frames[2:0:-1], frames, frames[-2:-4:-1]])
    kernel = np.array([-3, 12, 17, 12, -3]) / 35
    count = len(frames)
    smooth: Array = sum(k * padded[i : i + count] for i, k in enumerate(kernel))
    return smooth


def steady(frames: Array) -> Array:
    """Landmarks (T, 478, 3) of neighbouring frames without jitter, with all of their motion.

    What :func:`blur_in_time` takes off is given back where it is more than jitter: a fast turn, a
    blink, a closure (the local form of Wiener's filter: Lee, IEEE TPAMI 2, 1980). The shift of the
    whole head, lips, each eye and the rest are judged apart.
    """
    smooth = blur_in_time(frames)
    taken = frames - smooth
    size = max(float(eye_distance(frames[..., :2]).mean()), 1e-6)
    shift = np.median(taken[:, _REST], axis=1, keepdims=True)
    out: Array = smooth + shift * _motion(shift, size)
    for part in _PARTS:
        own = taken[:, part] - shift
        out[:, part] += own * _motion(own, size)
    return out


def _motion(taken: Array, size: float) -> Array:
    """(T, 1, 1) share of differences (T, n, 3) in pixels that is motion, as neighbours agree."""
    power = np.square(taken[..., :2] / size).sum(axis=2).mean(axis=1)
    power = np.maximum.reduce([power, np.append(power[1:], 0.0), np.insert(power[:-1], 0, 0.0)])
    share: Array = power / (power + _JITTER**2)
    return share[:, None, None]


def fill_gaps(frames: Array) -> Array:
    """Frames (T, 478, 3) with those that hold NaN interpolated in time."""
    good = np.isfinite(frames).all(axis=(1, 2))
    if not good.any():
        raise NoFaceError("no frame of the clip shows a face")
    if good.all():
        return frames
    when = np.arange(len(frames))
    flat = frames.reshape(len(frames), -1)
    out = np.stack([np.interp(when, when[good], column[good]) for column in flat.T], axis=1)
    return out.reshape(frames.shape)


def shape_fit_weights() -> Array:
    """Weight (478,) of every landmark in a fit: lips and lids most, irises nothing."""
    weights = np.ones(topo.N_POINTS)
    weights[list(topo.FACE_OVAL)] = 0.3  # a silhouette slides over the skin when the head turns
    weights[list(topo.LEFT_BROW_UPPER + topo.LEFT_BROW_LOWER)] = 2
    weights[list(topo.RIGHT_BROW_UPPER + topo.RIGHT_BROW_LOWER)] = 2
    weights[list(topo.OUTER_LIPS + topo.INNER_LIPS)] = 3
    weights[list(topo.LEFT_EYE + topo.RIGHT_EYE)] = 3
    weights[topo.N_FACE :] = 0
    return weights


def pose_terms(turns: Array) -> Array:
    """Regressors (T, 5) of landmark error on pose: yaw, pitch, their squares and product."""
    yaw, pitch = turns[:, 0], turns[:, 1]
    return np.stack([yaw, pitch, yaw**2, pitch**2, yaw * pitch], axis=1)


def measures() -> dict[str, Array]:
    """Linear measures (478, 3) of a shape, in face units: what the named axes move."""
    out: dict[str, Array] = {name: np.zeros((topo.N_POINTS, 3)) for name in EXPRESSION_NAMES}
    for name, upper, lower in (
        ("blink_left", topo.LEFT_EYE_UPPER, topo.LEFT_EYE_LOWER),
        ("blink_right", topo.RIGHT_EYE_UPPER, topo.RIGHT_EYE_LOWER),
    ):
        out[name][list(upper[2:7]), 1] = 0.2
        out[name][list(lower[2:7]), 1] = -0.2
    out["mouth_open"][list(topo.INNER_LIPS_LOWER[3:8]), 1] = 0.2
    out["mouth_open"][list(topo.INNER_LIPS_UPPER[3:8]), 1] = -0.2
    left, right = topo.MOUTH_CORNERS
    out["mouth_wide"][right, 0], out["mouth_wide"][left, 0] = 1.0, -1.0
    out["smile"][[left, right], 1] = -0.5
    out["smile"][list(topo.LIP_MIDDLES), 1] = 0.5
    brows = list(topo.LEFT_BROW_UPPER + topo.RIGHT_BROW_UPPER)
    out["brows_up"][brows, 1] = -1.0 / len(brows)
    out["brows_up"][list(topo.OUTER_CORNERS + topo.INNER_CORNERS), 1] = 0.25
    return out


def neutral_frames(shapes: Array) -> NDArray[np.bool_]:
    """Which of the shapes (T, 478, 3) have nearly closed lips, open eyes and a usual width."""
    value = {k: np.tensordot(shapes, v, axes=2) for k, v in measures().items()}
    opening = value["mouth_open"]
    eyes = -(value["blink_left"] + value["blink_right"])
    cost = (opening - np.quantile(opening, 0.05)) / 0.05
    cost = cost + np.maximum(np.median(eyes) - eyes, 0) / 0.04
    cost = cost + np.abs(value["mouth_wide"] - np.median(value["mouth_wide"])) / 0.15
    cost = cost + np.abs(value["brows_up"] - np.median(value["brows_up"])) / 0.1
    best: NDArray[np.bool_] = cost <= np.quantile(cost, 0.15)
    return best
