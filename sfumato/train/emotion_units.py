"""Emotions as textbooks know them: action units of FACS, built from the rows of our own basis.

An action unit (Ekman and Friesen, 1978) is written as moves of landmarks; the expression that comes
nearest, with lips that stay closed, stands for it. This is what training starts from, and all there
is where its teacher knows nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology as topo
from sfumato.latent import N_EXPRESSION, FaceBasis

Array = NDArray[np.floating]
Mix = dict[str, float]

_INNER, _MIDDLE, _OUTER = (107, 55, 66, 65), (105, 52), (70, 46, 63, 53)
_UPPER_LID, _LOWER_LID = (160, 159, 158), (144, 145, 153)
_CORNER = (61, 78, 185, 146)
# Name: points of the image's left half, how far they go outward and down, face units (9 cm).
UNITS: dict[str, list[tuple[tuple[int, ...], float, float]]] = {
    "inner brows up": [(_INNER, 0, -0.055), (_MIDDLE, 0, -0.03)],  # AU1
    "outer brows up": [(_OUTER, 0, -0.05), (_MIDDLE, 0, -0.04)],  # AU2
    "brows down": [(_INNER, -0.025, 0.045), (_MIDDLE, -0.015, 0.04), (_OUTER, 0, 0.015)],  # AU4
    "upper lids up": [(_UPPER_LID, 0, -0.022)],  # AU5
    "lids tight": [(_LOWER_LID, 0, -0.014), (_UPPER_LID, 0, 0.008)],  # AU6, AU7
    "nose wrinkled": [((48, 49, 64, 98, 97), 0, -0.03), ((36, 142, 126), 0, -0.02)],  # AU9
    "upper lip up": [((39, 40, 37, 81, 82, 0, 13), 0, -0.025)],  # AU10
    "smile": [(_CORNER, 0.045, -0.05), ((50, 205, 36, 101, 118), 0.01, -0.03)],  # AU12
    "dimple": [(_CORNER, 0.04, -0.015)],  # AU14
    "corners down": [((*_CORNER, 91), 0, 0.045), ((43, 106), 0, 0.03)],  # AU15
    "chin up": [((17, 84, 14, 87, 178, 18, 83), 0, -0.02), ((152, 175, 199, 200), 0, -0.015)],  # 17
    "lips wide": [(_CORNER, 0.05, 0.012)],  # AU20
    "lips pressed": [((0, 37, 39), 0, 0.015), ((17, 84, 181), 0, -0.015)],  # AU24
}
# Both sides of the face, and what one side alone does (contempt).
RECIPES: dict[str, tuple[Mix, Mix]] = {
    "happy": ({"smile": 2.0, "lids tight": 1.2}, {}),
    "sad": ({"inner brows up": 2.0, "brows down": 0.3, "corners down": 2.0, "chin up": 0.6}, {}),
    "angry": (
        {"brows down": 2.4, "upper lids up": 0.5, "lids tight": 1.3, "lips pressed": 1.5}
        | {"chin up": 0.5},
        {},
    ),
    "surprised": ({"inner brows up": 1.8, "outer brows up": 1.8, "upper lids up": 1.8}, {}),
    # Brows up and together and wide lips: with raised brows alone it is surprise.
    "afraid": (
        {"inner brows up": 2.5, "outer brows up": 0.1, "brows down": 1.3, "upper lids up": 2.4}
        | {"lips wide": 1.8, "corners down": 0.9},
        {},
    ),
    "disgusted": (
        {"nose wrinkled": 2.2, "upper lip up": 2.2, "brows down": 1.2, "lids tight": 1.7}
        | {"corners down": 1.0, "chin up": 0.6},
        {},
    ),
    "contemptuous": (
        {"lids tight": 0.9, "chin up": 0.5},
        {"smile": 1.7, "dimple": 0.8, "outer brows up": 1.0},
    ),
}
_STILL_WEIGHT = 0.15  # of points that no unit names: they had better stay
_RIDGE, _CLOSED = 3e-4, 3000.0
_LIPS = tuple(zip(topo.INNER_LIPS_UPPER[1:-1], topo.INNER_LIPS_LOWER[1:-1], strict=True))


def lip_gaps(basis: FaceBasis) -> Array:
    """(N_EXPRESSION, 9): how each coefficient parts the inner lips, face units."""
    e = basis.expression
    return np.stack([e[:, low, 1] - e[:, up, 1] for up, low in _LIPS], axis=1)


def recipes(basis: FaceBasis) -> dict[str, Array]:
    """Expression (N_EXPRESSION,) of every emotion by its recipe."""
    return {
        name: _nearest(basis, both, (-1, 1)) + _nearest(basis, one, (1,))
        for name, (both, one) in RECIPES.items()
    }


def _nearest(basis: FaceBasis, mix: Mix, sides: tuple[int, ...]) -> Array:
    """The expression that moves the landmarks as the units say; lips stay closed."""
    if not mix:
        return np.zeros(N_EXPRESSION)
    moves = np.zeros((topo.N_POINTS, 3))
    weight = np.full(topo.N_POINTS, _STILL_WEIGHT)
    weight[topo.N_FACE :] = 0
    for unit, strength in mix.items():
        for points, outward, down in UNITS[unit]:
            for point in points:
                places = {(point, -1), (int(topo.MIRROR[point]), 1)}
                for place, side in places:
                    share = 0.5 if place == topo.MIRROR[place] else 1.0  # met from both sides
                    if side in sides:
                        moves[place] += strength * share * np.array([side * outward, down, 0])
                    weight[place] = 1  # where one side moves the other had better not
    rows = basis.expression.reshape(N_EXPRESSION, -1)
    weights = np.repeat(weight, 3) * np.tile([1, 1, 0.05], topo.N_POINTS)
    gaps = lip_gaps(basis)
    left = (rows * weights) @ rows.T + _RIDGE * np.eye(N_EXPRESSION) + _CLOSED * gaps @ gaps.T
    found: Array = np.linalg.solve(left, (rows * weights) @ moves.ravel())
    return found
