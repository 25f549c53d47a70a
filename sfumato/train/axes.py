"""Directions in which faces move: axes with a name, and principal components of the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfumato.facefit import measures
from sfumato.geometry import topology as topo
from sfumato.latent import EXPRESSION_NAMES

Array = NDArray[np.floating]

N = topo.N_POINTS


def principal(rows: Array, weights: Array, metric: Array, count: int) -> tuple[Array, Array]:
    """Weighted principal components of rows (n, d) under a diagonal metric (d,).

    Returns:
        Components (count, d) scaled to one standard deviation, and the share of the variance
        that each explains (count,).
    """
    scaled = rows * np.sqrt(weights / weights.sum())[:, None] * np.sqrt(metric)
    covariance = scaled.T @ scaled
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    order = np.argsort(values)[::-1][:count]
    deviation = np.sqrt(np.maximum(values[order], 0))
    components = vectors[:, order].T * deviation[:, None] / np.sqrt(np.maximum(metric, 1e-9))
    return components, values[order] / values.sum()


def axis_masks(mean: Array) -> dict[str, Array]:
    """Where each named axis may act, (478, 1) in 0..1: so that a blink does not open the mouth."""
    eye, nose = mean[33, 1], mean[topo.NOSE_TIP, 1]

    def below(y: float, width: float) -> Array:
        mask: Array = 1 / (1 + np.exp(np.clip((y - mean[:, 1:2]) / width, -40, 40)))
        return mask

    def around(ring: tuple[int, ...]) -> Array:
        apart = np.linalg.norm(mean[:, None, :2] - mean[None, list(ring), :2], axis=2).min(axis=1)
        mask: Array = np.exp(-((apart / 0.13) ** 2))[:, None]
        return mask

    lower = below((eye + nose) / 2, 0.04)
    return {
        "blink_left": around(topo.LEFT_EYE),
        "blink_right": around(topo.RIGHT_EYE),
        "mouth_open": lower,
        "mouth_wide": lower,
        "smile": below(eye + 0.05, 0.03),
        "brows_up": 1 - below(eye, 0.04),
    }


def named_axes(rows: Array, weights: Array, mean: Array) -> tuple[list[Array], Array]:
    """The named axes (each (1434,), one standard deviation) and the rows without them."""
    table = {k: v.ravel() for k, v in measures().items()}
    masks = {k: np.repeat(v, 3) for k, v in axis_masks(mean).items()}
    axes: list[Array] = []

    def direction(measure: Array) -> Array:
        s = rows @ measure
        along: Array = (weights * s) @ rows / (weights @ (s * s))
        return along

    # Winks are rare: both eyes together give the direction, the masks split it.
    both = direction(table["blink_left"] + table["blink_right"]) * 2
    pair = np.stack([both * masks["blink_left"], both * masks["blink_right"]])
    lids = np.stack([table["blink_left"], table["blink_right"]])
    pair = shut(np.linalg.solve(pair @ lids.T, pair), mean)
    value = rows @ lids.T
    rows = rows - value @ pair
    axes += list(pair * np.sqrt(weights @ value**2 / weights.sum()).mean())
    for name in EXPRESSION_NAMES[2:]:
        along = direction(table[name]) * masks[name]
        along = along / (along @ table[name])
        value = rows @ table[name]
        rows = rows - np.outer(value, along)
        axes.append(along * np.sqrt(weights @ value**2 / weights.sum()))
    return axes, rows


def shut(pair: Array, mean: Array) -> Array:
    """The two blink directions (2, 1434), bent a little so that all lid pairs meet together."""
    out = pair.reshape(2, N, 3).copy()
    eyes = (
        (topo.LEFT_EYE_UPPER, topo.LEFT_EYE_LOWER),
        (topo.RIGHT_EYE_UPPER, topo.RIGHT_EYE_LOWER),
    )
    for axis, (upper, lower) in enumerate(eyes):
        up, low = list(upper[1:-1]), list(lower[1:-1])
        gap = mean[low] - mean[up]
        full = gap[1:6, 1].mean()  # the measure is minus this, so a unit closes by one face unit
        missing = gap / full + (out[axis, low] - out[axis, up])
        out[axis, up] += missing * 0.85
        out[axis, low] -= missing * 0.15
    return out.reshape(2, -1)
