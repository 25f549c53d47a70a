"""``sfumato train face``: distil MediaPipe into our own networks."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.details import DETAILS
from sfumato.geometry import topology
from sfumato.geometry.crop import Square, face_square, transform
from sfumato.models.face import (
    DETECTOR_STRIDE,
    LANDMARK_SIDE,
    MATTE_SIDE,
    N_LANDMARKS,
    DetectorNet,
    LandmarkNet,
    MatteNet,
)
from sfumato.train import face_data
from sfumato.train.face_details import detail_task
from sfumato.train.face_task import BATCH, Batch, Pictures, Task, to_input
from sfumato.train.loop import Loader, bfloat16_pays, follow, save

DETECTOR_SIDE = 256


def landmark_weights() -> Tensor:
    """Weight of each landmark in the loss, (478, 1), mean 1: lips, lids and irises count more."""
    weights = np.ones(N_LANDMARKS, np.float32)
    for group in (
        topology.INNER_LIPS_UPPER,
        topology.INNER_LIPS_LOWER,
        topology.OUTER_LIPS_UPPER,
        topology.OUTER_LIPS_LOWER,
        topology.LEFT_EYE_UPPER,
        topology.LEFT_EYE_LOWER,
        topology.RIGHT_EYE_UPPER,
        topology.RIGHT_EYE_LOWER,
    ):
        weights[list(group)] = 2.5
    weights[468:] = 2.0
    return torch.from_numpy(weights / weights.mean())[:, None]


# Opposite points whose distance is the opening of the lips and of the lids.
GAPS = torch.tensor(
    [
        pair
        for upper, lower in (
            (topology.INNER_LIPS_UPPER, topology.INNER_LIPS_LOWER),
            (topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER),
            (topology.RIGHT_EYE_UPPER, topology.RIGHT_EYE_LOWER),
        )
        for pair in zip(upper[2:-2], lower[2:-2], strict=True)
    ]
)


def landmark_task(pictures: Pictures) -> Task:
    weights = landmark_weights()

    def batch(rng: np.random.Generator) -> Batch:
        crops, targets, fits = [], [], []
        for _ in range(BATCH):
            example = pictures.draw(rng)
            crop, target, fit = face_data.landmark_sample(
                example.image(), example.landmarks, LANDMARK_SIDE, rng
            )
            crops.append(crop), targets.append(target), fits.append(fit)
        return (
            to_input(crops),
            torch.from_numpy(np.array(targets, np.float32)),
            torch.tensor(fits, dtype=torch.float32),
        )

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        crops, targets, fits = batch
        points, logits = (out.float() for out in network(crops))
        # Close to L1 beyond a third of a pixel of the crop: outliers of the teacher weigh little.
        error = torch.sqrt((points - targets) ** 2 + 2e-5) * weights
        error = error * torch.tensor([1.0, 1.0, 0.5])
        # Where the face is dominates the error above; openings decide what an expression is.
        moved = (points - targets)[:, :, :2]
        opening = torch.sqrt((moved[:, GAPS[:, 0]] - moved[:, GAPS[:, 1]]) ** 2 + 2e-5)
        each = error.mean((1, 2)) + opening.mean((1, 2))
        shape = (each * fits).sum() / fits.sum().clamp(min=1)
        return 10 * shape + 0.1 * F.binary_cross_entropy_with_logits(logits, fits)

    def network() -> nn.Module:
        net = LandmarkNet()
        rng = np.random.default_rng(0)
        shapes = []
        for _ in range(256):
            example = pictures.draw(rng)
            square = face_square(example.landmarks)
            points = transform(square.matrix(LANDMARK_SIDE), example.landmarks)
            target = points * (2.0 / LANDMARK_SIDE)
            target[:, :2] += 1.0 / LANDMARK_SIDE - 1.0
            shapes.append(target)
        net.mean.copy_(torch.from_numpy(np.mean(shapes, 0).astype(np.float32)))
        return net

    return Task("landmarks", network, batch, loss, 1.2e-3)


def detector_target(faces: list[Square], cells: int) -> np.ndarray:
    """(7, cells, cells): Gaussian score, dx, dy, log2 size in cells, cos, sin, centres' weight."""
    out = np.zeros((7, cells, cells), np.float32)
    y, x = np.mgrid[:cells, :cells]
    for face in faces:
        cx, cy = (face.x + 0.5) / DETECTOR_STRIDE - 0.5, (face.y + 0.5) / DETECTOR_STRIDE - 0.5
        size = face.side / DETECTOR_STRIDE
        spread = max(0.4, 0.12 * size)
        bump = np.exp(-((x - round(cx)) ** 2 + (y - round(cy)) ** 2) / (2 * spread**2))
        near = bump > np.maximum(out[0], 0.3)
        out[0] = np.maximum(out[0], bump)
        values = (cx - x, cy - y, np.full_like(out[0], np.log2(size)))
        for channel, value in enumerate(values, 1):
            out[channel][near] = value[near]
        out[4][near], out[5][near] = np.cos(face.roll), np.sin(face.roll)
        out[6][near] = bump[near]
    return out


def detector_task(pictures: Pictures) -> Task:
    cells = DETECTOR_SIDE // DETECTOR_STRIDE

    def batch(rng: np.random.Generator) -> Batch:
        images, targets = [], []
        for _ in range(BATCH // 2):
            count = 1 if rng.random() < 0.5 else int(rng.integers(2, 6))
            drawn = [pictures.draw(rng) for _ in range(count)]
            picture, faces = face_data.mosaic(
                [(e.image(), e.landmarks) for e in drawn], DETECTOR_SIDE, rng
            )
            images.append(picture), targets.append(detector_target(faces, cells))
        return to_input(images), torch.from_numpy(np.array(targets))

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        images, target = batch
        out = network(images).float()
        score, heat = out[:, 0], target[:, 0]
        # Penalty-reduced focal loss (CenterNet, eq. 1).
        p = torch.sigmoid(score).clamp(1e-4, 1 - 1e-4)
        hit = (heat > 0.999).float()
        focal = hit * (1 - p) ** 2 * p.log() + (1 - hit) * (1 - heat) ** 4 * p**2 * (1 - p).log()
        count = hit.sum().clamp(min=1)
        box = (out[:, 1:6] - target[:, 1:6]).abs().sum(1) * target[:, 6]
        return -focal.sum() / count + box.sum() / target[:, 6].sum().clamp(min=1)

    return Task("detector", DetectorNet, batch, loss, 1e-3)


def matte_task(pictures: Pictures) -> Task:
    def batch(rng: np.random.Generator) -> Batch:
        crops, mattes = [], []
        while len(crops) < BATCH // 2:
            example = pictures.draw(rng)
            if not example.matte.any():
                continue
            image = example.image()
            # Stills and frames are squares of about 2.2 face heights: what the renderer asks for.
            square = Square((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2, image.shape[0])
            crop, matte = face_data.matte_sample(image, example.matte, square, MATTE_SIDE, rng)
            crops.append(crop), mattes.append(matte)
        return to_input(crops), torch.from_numpy(np.array(mattes)).float()[:, None] / 255

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        crops, mattes = batch
        logits = network(crops).float()
        return (
            F.binary_cross_entropy_with_logits(logits, mattes)
            + (torch.sigmoid(logits) - mattes).abs().mean()
        )

    return Task("matte", MatteNet, batch, loss, 1.5e-3)


def train(task: Task, folder: Path, minutes: float, seed: int = 0) -> nn.Module:
    """Train for ``minutes`` in all (over resumed runs); returns the averaged network.

    The checkpoint ``folder/<name>.pt`` holds everything that resuming needs.
    """
    path = folder / f"{task.name}.pt"
    network = task.network().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), task.rate, weight_decay=1e-3)
    spent, step = 0.0, 0
    if path.exists():
        stored = torch.load(path, weights_only=True)
        network.load_state_dict(stored["network"])
        average.load_state_dict(stored["average"])
        optimiser.load_state_dict(stored["optimiser"])
        spent, step = stored["spent"], stored["step"]
    loader = Loader(task.batch, seed + step)
    probe, batch = copy.deepcopy(network).train(), loader.next()
    half = bfloat16_pays(lambda: task.loss(probe, batch))

    def state(spent: float, step: int) -> dict[str, object]:
        parts = {"network": network, "average": average, "optimiser": optimiser}
        return {k: v.state_dict() for k, v in parts.items()} | {"spent": spent, "step": step}

    last, saved, running = time.monotonic(), spent, math.nan
    while spent < minutes * 60:
        share = spent / (minutes * 60)
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / 200)
            group["lr"] = task.rate * warm * (0.5 * (1 + math.cos(math.pi * share)) + 0.01)
        network.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = task.loss(network, loader.next())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        step += 1
        follow(average, network, min(0.998, 1 - 1 / (step + 1)))
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        now = time.monotonic()
        spent, last = spent + now - last, now
        if step % 100 == 0:
            left = minutes - spent / 60
            print(f"{task.name} {step}: loss {running:.4f}, {left:.1f} min left", flush=True)
        if spent - saved > 120:
            save(path, state(spent, step))
            saved = spent
    loader.close()
    save(path, state(spent, step))
    return average


TASKS: dict[str, Callable[[Pictures], Task]] = {
    "detector": detector_task,
    "landmarks": landmark_task,
    "matte": matte_task,
    **{detail.name: partial(detail_task, detail=detail) for detail in DETAILS},
}
SIDES = {
    "detector": DETECTOR_SIDE,
    "landmarks": LANDMARK_SIDE,
    "matte": MATTE_SIDE,
    **{detail.name: detail.pixels for detail in DETAILS},
}


def train_face(
    stills: Path,
    stills_labels: Path,
    clips: Path,
    tracks: Path,
    runs: Path,
    part: str,
    minutes: float,
    cleared: bool = False,
) -> None:
    """Train ``part`` (a key of :data:`TASKS`) and export it to ``runs/face_<part>.onnx``.

    Args:
        stills: folder of pictures with ``index.tsv``; ``stills_labels``: its labels by teacher.py.
        clips: folder of clips with ``index.tsv``; ``tracks``: folder of their labels.
        runs: checkpoints, caches and the exported network go here.
        minutes: training time in all, resumed runs included.
        cleared: only sources with a cleared licence; ``runs`` must hold no run with others.
    """
    from sfumato.train.export import export_onnx

    cv2.setNumThreads(1)
    examples = face_data.load_stills(stills, stills_labels, cleared)
    frames = runs / "cache" / "frames.npz"
    examples += face_data.load_frames(clips, tracks, frames, cleared=cleared)
    pictures = Pictures(examples)
    print(f"{len(pictures.examples)} training pictures", flush=True)
    network = train(TASKS[part](pictures), runs / "face", minutes)
    side = SIDES[part]
    export_onnx(
        network, torch.zeros(1, 3, side, side), runs / f"face_{part}.onnx", free=part == "detector"
    )
