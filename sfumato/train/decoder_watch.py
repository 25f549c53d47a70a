"""How a decoder in training does on people who do not train: figures and sheets."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.train.decoder_data import Batch
from sfumato.train.decoder_judge import Judges
from sfumato.train.decoder_loss import energy
from sfumato.train.decoder_net import Decoder


@torch.no_grad()
def figures(network: Decoder, batch: Batch, judges: Judges) -> tuple[dict[str, float], Tensor]:
    """Learned over drawn against the real frames, and the learned frames."""
    out = network.eval()(batch)[0].clamp(-1, 1)
    inside = batch.masks[:, :1]

    def l1(picture: Tensor, where: Tensor | float = 1.0) -> float:
        return float(((picture - batch.real).abs() * where).mean())

    def sharp(picture: Tensor) -> float:
        usable = inside.mean((1, 2, 3)) > 0.005
        return float((energy(picture, inside) / energy(batch.real, inside))[usable].median())

    drawn, real = batch.drawn, batch.real
    features = judges.features
    off, off_drawn = (judges.points.distance(p, real, batch.masks) for p in (out, drawn))
    found = {
        "l1": l1(out) / l1(drawn),
        "l1_inside": l1(out, inside) / l1(drawn, inside),
        "perceptual": float(features.distance(out, real) / features.distance(drawn, real)),
        "sharp": sharp(out),
        "sharp_drawn": sharp(drawn),
        "points": float(off / off_drawn),
    }
    return found, out


def sheet(batch: Batch, out: Tensor, rows: int = 8) -> NDArray[np.uint8]:
    """Photo, drawn, learned, real; two pairs a row, the widest openings first."""
    half = len(batch.photo)
    order = batch.masks[:half, 0].mean((1, 2)).argsort(descending=True)
    picks = [int(i) for i in order[: len(order) // 2 : max(1, len(order) // 4 // rows)]][: 2 * rows]
    tiles = [
        np.hstack(
            [
                _shown(p, out)
                for p in (batch.photo[i, :3] * 2 - 1, batch.drawn[i], out[i], batch.real[i])
            ]
        )
        for i in picks
    ]
    return np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles) - 1, 2)])


def _shown(picture: Tensor, like: Tensor) -> NDArray[np.uint8]:
    values = (picture.float().permute(1, 2, 0).cpu().numpy() + 1) * 127.5
    image = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(image, tuple(like.shape[:1:-1])), np.uint8)
