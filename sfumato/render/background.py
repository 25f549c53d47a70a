"""The background behind the person, filled once.

Only a rim of it ever shows when the head moves, so the rim must look most like its surroundings:
it is the surroundings, mirrored at the person's outline. Farther in, where nobody looks, a smooth
fill from all sides takes over. Mirroring bends fine detail into rings, so only coarse structure is
taken from it; grain, leaves or brush strokes come as straight tiles from beside the person.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

_FINE = 0.008  # blur that parts fine detail from coarse structure, share of the side
_CHOICES = 8  # tiles of detail come from one of that many nearest places: no repeated pattern


def fill(image: Image, matte: Floats, doubt: Floats) -> Image:
    """Replace the person by what may lie behind.

    Args:
        image: (H, W, 3) RGB.
        matte: (H, W) in 0..1, the person.
        doubt: (H, W) in 0..1, where near the matte there may be remains of the person.

    Returns:
        (H, W, 3) uint8, equal to the image away from the person.
    """
    side = image.shape[0]
    margin = max(2, round(0.012 * side))
    person = (matte > 0.05).astype(np.uint8)
    remains = _grown(person, 3 * margin) & (doubt > 0.17)
    hole = _grown(person | remains, margin)
    hole |= _grown(_strays(image, hole, 4 * margin), margin // 2)
    if not hole.any():
        return image.copy()
    smooth = _pull_push(image.astype(np.float32), 1 - hole.astype(np.float32))
    mirrored, distance = _mirrored(image, hole)
    depth = np.clip((distance / side - 0.05) / 0.10, 0, 1)[..., None]
    filled = np.where(hole[..., None] > 0, mirrored * (1 - depth) + smooth * depth, image)
    filled = cv2.GaussianBlur(filled, (0, 0), _FINE * side) + _detail(image, hole)
    edge = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(1.0, margin / 2))
    edge = np.clip(2 * edge, 0, 1)[..., None]
    result = image * (1 - edge) + filled * edge
    filled_in: Image = np.clip(result + 0.5, 0, 255).astype(np.uint8)
    return filled_in


def _detail(image: Image, hole: Image) -> Floats:
    """Fine detail (H, W, 3) for the hole: tiles from the nearest free places, faded together."""
    side = image.shape[0]
    sigma, half = _FINE * side, max(4, round(0.04 * side))
    free = (1 - hole).astype(np.float32)
    mass = np.maximum(cv2.GaussianBlur(free, (0, 0), sigma), 1e-3)[..., None]
    coarse = cv2.GaussianBlur(image * free[..., None], (0, 0), sigma) / mass
    fine = (image - coarse) * free[..., None]
    # Grain may be copied anywhere, an edge would be out of place.
    usual = 4 + 4 * float(np.median(np.abs(fine[hole == 0]))) if not hole.all() else 0.0
    fine = np.clip(fine, -usual, usual)
    taken = cv2.integral(hole)
    tile = 2 * half
    covered = (
        taken[tile:, tile:] - taken[:-tile, tile:] - taken[tile:, :-tile] + taken[:-tile, :-tile]
    )
    sources = np.argwhere(covered[:: half // 2, :: half // 2] == 0) * (half // 2)
    result = np.zeros_like(fine)
    if len(sources) == 0:
        return result
    # Squares of the windows add up to one, so that the grain keeps its strength.
    ramp = np.sin((np.arange(tile) + 0.5) * np.pi / tile).astype(np.float32)
    window = (ramp[:, None] * ramp)[..., None]
    rng = np.random.default_rng(0)
    for y, x in np.argwhere(covered[::half, ::half] > 0) * half:
        far = np.square(sources - (y, x)) @ (2, 1)  # rather from the side than from above
        near = np.argsort(far)[:_CHOICES]
        v, u = sources[rng.choice(near)]
        result[y : y + tile, x : x + tile] += window * fine[v : v + tile, u : u + tile]
    return result


def _strays(image: Image, hole: Image, reach: int) -> Image:
    """What stands out from the surroundings near the hole: single hairs that the matte missed."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    free = (1 - hole).astype(np.float32)
    size = (4 * reach + 1, 4 * reach + 1)
    mass, total, square = (
        cv2.boxFilter(x, -1, size) for x in (free, grey * free, grey * grey * free)
    )
    mean = total / np.maximum(mass, 1e-3)
    spread = np.sqrt(np.maximum(square / np.maximum(mass, 1e-3) - mean * mean, 0))
    stands_out = (np.abs(grey - mean) > 2.5 * spread + 4) & (hole == 0)
    strays: Image = stands_out.astype(np.uint8) & _grown(hole, reach)
    return strays


def _grown(mask: Image, radius: int) -> Image:
    size = (2 * radius + 1, 2 * radius + 1)
    result = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
    return result.astype(np.uint8, copy=False)


def _mirrored(image: Image, hole: Image) -> tuple[Floats, Floats]:
    """The image mirrored at the edge of the hole, and the distance from that edge (pixels)."""
    distance, labels = cv2.distanceTransformWithLabels(
        hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    free = np.flatnonzero(hole == 0)
    nearest = np.zeros(int(labels.max()) + 1, np.int64)
    nearest[labels.ravel()[free]] = free
    spot = nearest[labels]
    y, x = np.divmod(spot, hole.shape[1])
    rows, columns = np.indices(hole.shape, dtype=np.float32)
    steps = np.stack([2 * (x - columns), 2 * (y - rows)], axis=2).astype(np.float32)
    # Neighbours with different nearest points would tear the picture: even their flow out.
    flow = cv2.GaussianBlur(steps, (0, 0), 0.012 * hole.shape[0])
    taken = (columns + flow[..., 0], rows + flow[..., 1])
    picture = cv2.remap(image, *taken, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    blocked = cv2.remap(hole, *taken, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    soft = cv2.GaussianBlur(blocked.astype(np.float32), (0, 0), 0.01 * hole.shape[0])
    valid = (1 - np.clip(2 * soft, 0, 1)) * (blocked == 0)
    smooth = _pull_push(picture.astype(np.float32), valid.astype(np.float32))
    mixed = picture * valid[..., None] + smooth * (1 - valid[..., None])
    return mixed.astype(np.float32), distance.astype(np.float32)


def _pull_push(image: Floats, weight: Floats) -> Floats:
    """Smooth interpolation into the places without weight, from coarse to fine."""
    if min(weight.shape) <= 2:
        mean = (image * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
        return np.broadcast_to(mean, image.shape).astype(np.float32)
    mass = cv2.pyrDown(weight)
    half = cv2.pyrDown(image * weight[..., None]) / np.maximum(mass, 1e-6)[..., None]
    below = _pull_push(half, np.minimum(4 * mass, 1))
    grown = cv2.pyrUp(below, dstsize=weight.shape[::-1])
    part = weight[..., None]
    result: Floats = image * part + grown * (1 - part)
    return result
