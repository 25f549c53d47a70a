"""The sitter in front of the painter: pose, camera, and what every pixel sees of her.

Camera space: x right, y up, z towards the viewer, in decimetres; the picture is 1024 x 1280 units,
painted with ``zoom`` pixels to a unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from portrait import head, raster

WIDTH, HEIGHT = 1024, 1280
UNIT = 236.0  # picture units for a decimetre at the distance of her face
DISTANCE = 22.0  # decimetres from the painter's eye to the origin of camera space
LOOK = np.array([-0.02, 5.86])  # the point of camera space in the middle of the picture
HEAD_TURN = np.radians([-12.0, 4.0, 2.0])  # yaw, pitch, roll
BODY_TURN = np.radians(-24.0)
NECK = (5.45, 6.35)  # the height over which the turn of the body becomes that of the head
PIVOT = np.array([0.0, 6.2, 0.35])


@dataclass(frozen=True)
class Buffers:
    """What is seen through each pixel: (H, W, ...) float32; ``part`` -1 where nothing is."""

    zoom: float
    part: np.ndarray
    position: np.ndarray
    normal: np.ndarray
    rest: np.ndarray
    uv: np.ndarray
    eyes: np.ndarray
    eye_radius: float
    eye_turn: np.ndarray


def turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix: yaw < 0 turns her to the left of the picture, roll > 0 tilts clockwise."""
    c, s = np.cos(yaw), np.sin(yaw)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(pitch), np.sin(pitch)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = np.cos(roll), np.sin(roll)
    about_z = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def pose(points: np.ndarray) -> np.ndarray:
    """Turn head and body; the neck takes up the difference."""
    share = np.clip((points[:, 1] - NECK[0]) / (NECK[1] - NECK[0]), 0, 1)
    share = (share * share * (3 - 2 * share))[:, None]
    moved = points - PIVOT
    return (
        (moved @ turn(*HEAD_TURN).T) * share
        + (moved @ turn(BODY_TURN, 0, 0).T) * (1 - share)
        + PIVOT
    )


def project(points: np.ndarray, zoom: float) -> np.ndarray:
    """Camera space (..., 3) to pixels (..., 3): x right, y down, z away from the viewer."""
    depth = DISTANCE - points[..., 2]
    scale = UNIT * zoom * (DISTANCE - 1.2) / depth
    x = WIDTH * zoom / 2 + (points[..., 0] - LOOK[0]) * scale
    y = HEIGHT * zoom / 2 - (points[..., 1] - LOOK[1]) * scale
    return np.stack([x, y, depth], axis=-1)


def neckline(points: np.ndarray) -> np.ndarray:
    """Height of the border of the dress at ``points`` (..., 3) of the unturned body."""
    across = np.abs(points[..., 0])
    return 4.62 + 0.10 * across**2 + 0.42 * np.clip(across - 0.6, 0, None) ** 2.2


def buffers(zoom: float) -> Buffers:
    """Rasterise the posed sitter."""
    mesh = head.load()
    rest = mesh.points
    lift = np.clip((neckline(rest) - rest[:, 1]) / 0.10, 0, 1) * (rest[:, 1] < 5.6)
    dressed = rest + 0.05 * lift[:, None] * raster.vertex_normals(rest, mesh.triangles)
    points = pose(dressed)
    normals = raster.vertex_normals(points, mesh.triangles)
    height, width = round(HEIGHT * zoom), round(WIDTH * zoom)
    index, weights = raster.visible(project(points, zoom), mesh.triangles, height, width)
    corner = mesh.triangles[index]

    def spread(values: np.ndarray) -> np.ndarray:
        return np.einsum("hwkc,hwk->hwc", values[corner], weights).astype(np.float32)

    normal = spread(normals)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    return Buffers(
        zoom=zoom,
        part=np.where(index < 0, -1, mesh.part[index]),
        position=spread(points),
        normal=normal,
        rest=spread(rest),
        uv=spread(mesh.uv),
        eyes=pose(mesh.eyes),
        eye_radius=mesh.eye_radius,
        eye_turn=turn(*HEAD_TURN),
    )
