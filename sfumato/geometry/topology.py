"""Which landmark is what: index tuples, the triangles of the face skin, the left-right mirror.

The 478 points are numbered as MediaPipe's face mesh with irises (google/mediapipe, Apache-2.0,
``face_mesh_connections.py``). "Left" and "right" here mean sides of the **image**, so the left eye
is the one with corners 33 and 133. The triangles are our own: a Delaunay triangulation of the
mean face, unwrapped on a cylinder with the mouth open, whose edges follow the lips and lids; the
holes of the eyes and the mouth stay empty, and edges were flipped where that kept the triangles
in shape over open mouths, closed eyes and smiles. The table is fixed data, ``topology.npz``.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

N_POINTS = 478
N_FACE = 468  # points of the skin; the rest are the two irises

# Lids run from the outer to the inner corner; both corners belong to the upper and the lower row.
LEFT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LEFT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
RIGHT_EYE_UPPER = (263, 466, 388, 387, 386, 385, 384, 398, 362)
RIGHT_EYE_LOWER = (263, 249, 390, 373, 374, 380, 381, 382, 362)
# Closed rings, as polygons.
LEFT_EYE = LEFT_EYE_UPPER + LEFT_EYE_LOWER[-2:0:-1]
RIGHT_EYE = RIGHT_EYE_UPPER + RIGHT_EYE_LOWER[-2:0:-1]
# Centre, then four points of the rim.
LEFT_IRIS = (468, 469, 470, 471, 472)
RIGHT_IRIS = (473, 474, 475, 476, 477)

# Brows: upper and lower edge from the outer end inwards.
LEFT_BROW_UPPER = (70, 63, 105, 66, 107)
LEFT_BROW_LOWER = (46, 53, 52, 65, 55)
RIGHT_BROW_UPPER = (300, 293, 334, 296, 336)
RIGHT_BROW_LOWER = (276, 283, 282, 295, 285)

# Lips run from the image-left to the image-right corner; corners belong to both rows.
INNER_LIPS_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LIPS_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
OUTER_LIPS_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LIPS_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
INNER_LIPS = INNER_LIPS_UPPER + INNER_LIPS_LOWER[-2:0:-1]
OUTER_LIPS = OUTER_LIPS_UPPER + OUTER_LIPS_LOWER[-2:0:-1]

# The rim of the mesh, clockwise in the image from the top of the forehead.
# fmt: off
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
# fmt: on

OUTER_CORNERS = (33, 263)  # their distance on the mean face is the face unit
INNER_CORNERS = (133, 362)
MOUTH_CORNERS = (61, 291)
LIP_CORNERS = (78, 308)  # where the inner lips meet
# Upper and lower points in the middle of the inner lips and of the lids.
LIP_MIDDLES = (13, 14)
LID_MIDDLES = ((159, 145), (386, 374))
NOSE_TIP = 1
CHIN = 152
# Points over bone that expression hardly moves: eye corners, nose bridge, forehead, temples.
# fmt: off
RIGID = (
    33, 263, 133, 362, 6, 168, 8, 9, 151, 10, 197, 195, 5, 4, 1,
    127, 356, 234, 454, 21, 251, 54, 284, 103, 332, 67, 297, 109, 338,
)
# fmt: on


def _table(name: str) -> NDArray[np.int32]:
    with files("sfumato.data").joinpath("topology.npz").open("rb") as handle:
        table: NDArray[np.int32] = np.load(handle, allow_pickle=False)[name].astype(np.int32)
    table.setflags(write=False)
    return table


# (852, 3) int32, vertex indices < N_FACE; every triangle runs clockwise on the screen (positive
# area with y down) when the face looks at the viewer.
TRIANGLES = _table("triangles")
# (478,) int32: MIRROR[i] is the point where i lands when the face is mirrored left to right.
MIRROR = _table("mirror")
