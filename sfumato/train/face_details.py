"""Batches and losses for the close looks of :mod:`sfumato.details`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.details import Detail, wanted
from sfumato.geometry import topology as topo
from sfumato.geometry.crop import cut
from sfumato.geometry.distances import eye_distance
from sfumato.models.face import DetailNet
from sfumato.train.face_data import Rng, jittered
from sfumato.train.face_task import BATCH, Batch, Pictures, Task, to_input
from sfumato.train.styles import style

Floats = NDArray[np.floating]

ROUGH = 0.6  # how far rough landmarks miss, in :func:`jittered`'s unit
LEAST = 40.0  # pixels between the outer eye corners: a smaller face teaches no detail
RATE = 1.5e-3


def sample(
    image: NDArray[np.uint8], landmarks: Floats, detail: Detail, rng: Rng
) -> tuple[NDArray[np.uint8], Floats]:
    """Crop (side, side, 3) where a tracker would look, and its points (n, 2) in crop units.

    Lips are mirrored half of the time, of the eyes one of the two is taken.
    """
    flip = bool(rng.random() < 0.5)
    square = jittered(detail.square(landmarks, flip and detail.mirrored), rng, ROUGH)
    crop = cut(image, square, detail.pixels)
    crop = np.ascontiguousarray(crop[:, ::-1]) if flip else crop
    return style(crop, rng), wanted(detail, square, landmarks, flip)


def gaps(detail: Detail) -> Tensor:
    """Pairs (n, 2) of opposite points, by their place in ``detail.points``."""
    ids = detail.points.tolist()
    rows = (
        (topo.INNER_LIPS_UPPER, topo.INNER_LIPS_LOWER),
        (topo.LEFT_EYE_UPPER, topo.LEFT_EYE_LOWER),
    )
    pairs = [p for a, b in rows for p in zip(a[1:-1], b[1:-1], strict=True) if p[0] in ids]
    return torch.tensor([[ids.index(a), ids.index(b)] for a, b in pairs])


def detail_task(pictures: Pictures, detail: Detail) -> Task:
    """How to learn one kind of close look."""
    pictures = pictures.only(lambda e: float(eye_distance(e.landmarks)) >= LEAST)
    opposite = gaps(detail)

    def batch(rng: np.random.Generator) -> Batch:
        drawn = [pictures.draw(rng) for _ in range(2 * BATCH)]
        pairs = [sample(e.image(), e.landmarks, detail, rng) for e in drawn]
        crops, targets = zip(*pairs, strict=True)
        return to_input(list(crops)), torch.from_numpy(np.array(targets, np.float32))

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        crops, targets = batch
        error = network(crops).float() - targets
        # Near L1: the teacher's outliers weigh little. Openings and irises count for themselves.
        apart = error[:, opposite[:, 0]] - error[:, opposite[:, 1]]
        iris = error[:, [detail.points.tolist().index(468)]] if detail.mirrored else error[:, :0]
        parts = [torch.sqrt(e**2 + 2e-5).mean() for e in (error, apart, iris) if e.shape[1]]
        return 10 * torch.stack(parts).sum()

    def network() -> nn.Module:
        net = DetailNet(detail.pixels, len(detail.points))
        rng = np.random.default_rng(0)
        shapes = [sample(e.image(), e.landmarks, detail, rng)[1] for e in pictures.some(256, rng)]
        net.mean.copy_(torch.from_numpy(np.mean(shapes, 0).astype(np.float32)))
        return net

    return Task(detail.name, network, batch, loss, RATE)
