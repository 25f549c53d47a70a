"""``sfumato train slide``: learn from optical flow how skin slides under the mesh.

A few frames of every clip serve as photos and are driven to others of the same clip. The flow from
what the renderer draws to what was there (DIS, Kroeger et al. 2016) is read at every vertex of the
mesh. A second round draws with what the first one learned: small flow is measured better.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.corpus import read_index
from sfumato.errors import NoFaceError
from sfumato.geometry import topology
from sfumato.geometry.crop import transform
from sfumato.landmarks import Face, FaceEncoder
from sfumato.latent import FaceBasis
from sfumato.motionfile import N_EXPRESSION, N_SKIN
from sfumato.render import skin
from sfumato.render.skinmeter import AROUND, SkinMeter, believed
from sfumato.render.slide import Slide, observed
from sfumato.train.axes import principal
from sfumato.train.basis import mirrored
from sfumato.train.decoder_cache import chosen, portraits, read_clip
from sfumato.train.measured import gather, read_rows, split
from sfumato.train.stamp import TRACKER, stamp

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

ROUNDS = 2
_FRAMES = 16  # for every photo
_RIM = 0.08  # face units over which the slide begins, away from the rims of lips and lids
_HELD_OUT = 8  # one person in so many only validates
_HIDDEN, _PATTERNS = 192, 96
_STEPS, _BATCH, _RATE = 3000, 256, 2e-3
_DROPOUT, _NOISE, _DECAY = 0.1, 0.1, 1e-3
_HUBER = 0.03  # face units
_PERSON = 10  # where expression begins in what is observed


def train_slide(
    clips: Path, tracks: Path, runs: Path, cleared: bool = False, start: Path | None = None
) -> Path:
    """All rounds; writes and returns ``runs/slide.npz``.

    Args:
        clips: folder of clips; ``tracks``: their landmarks by teacher.py, ``<name>.npz``.
        start: what an earlier training learned: the last round alone is run, drawn with it.
    """
    wanted = chosen(read_index(clips, cleared), tracks)
    file = runs / "slide.npz"
    slide = Slide.load(start) if start else None
    for number in range(ROUNDS - 1 if start else 0, ROUNDS):
        folder = runs / "cache" / f"slide_{number}"
        stamp(folder, 1, (*TRACKER, "face_matte.onnx"))
        found = gather(wanted, tracks, folder, partial(measure, slide=slide), number)
        slide, explained = fit([read_rows(each) for each in found])
        slide.save(file)
        print(f"round {number + 1}: {explained:.3f} of the flow on held-out faces explained")
    return file


def measure(
    video: Path, track: Path, photos: int, seed: int, slide: Slide | None
) -> dict[str, Floats]:
    """What was observed and how the skin slid, in one clip.

    Args:
        slide: what is known already.

    Returns:
        ``observed`` (R, N_INPUTS) float32; ``flow`` (R, V, 2) float16, face units, upright in the
        head, NaN where the clip does not show the vertex.

    Raises:
        NoFaceError: No frame serves as a photo.
    """
    frames, landmarks, seen = read_clip(video, track)
    rng = np.random.default_rng(seed)
    encoder, basis = FaceEncoder.load(), FaceBasis.load()
    rows, flows = [], []
    for portrait in portraits(frames, landmarks, photos, rng):
        meter = SkinMeter(portrait, basis, slide, None, frames[0].shape)
        for moment in rng.choice(
            np.flatnonzero(seen), min(_FRAMES, int(seen.sum())), replace=False
        ):
            # The product's own tracker, so that its habits are learned as well.
            there = encoder.track(frames[moment], Face(landmarks[moment], 1.0))
            if there is not None:
                points = transform(portrait.canvas.matrix, there.landmarks)
                motion = basis.fit_frame(portrait.latents, points)
                known = slide.upright(portrait.latents, motion) if slide is not None else 0.0
                rows.append(observed(portrait.latents, motion))
                flows.append(meter.shown(frames[moment], motion)[0] + known)
    if not rows:
        raise NoFaceError("no frame serves as a photo")
    return {"observed": np.array(rows, np.float32), "flow": np.array(flows, np.float16)}


class SlideNet(nn.Module):
    """What :class:`Slide` computes, as it is trained; rows (B, N_INPUTS) -> (B, V * 2)."""

    def __init__(self, centre: Floats, spread: Floats, patterns: Floats) -> None:
        super().__init__()
        inputs, count = len(centre), len(patterns)
        self.first, self.second = nn.Linear(inputs, _HIDDEN), nn.Linear(_HIDDEN, _HIDDEN)
        self.straight = nn.Linear(inputs, count, bias=False)
        self.bent = nn.Linear(_HIDDEN, count, bias=False)
        self.drop = nn.Dropout(_DROPOUT)
        self.register_buffer("centre", torch.tensor(centre))
        self.register_buffer("spread", torch.tensor(spread))
        self.register_buffer("patterns", torch.tensor(patterns))

    def weights(self, rows: Tensor) -> Tensor:
        x = (rows - self.centre) / self.spread
        x = x + _NOISE * torch.randn_like(x) if self.training else x
        hidden = self.drop(torch.relu(self.first(x)))
        hidden = self.drop(torch.relu(self.second(hidden)))
        return torch.as_tensor(self.straight(x) + self.bent(hidden))

    def forward(self, rows: Tensor) -> Tensor:
        return (self.weights(rows) - self.weights(_at_rest(rows))) @ self.patterns

    def slide(self, axes: NDArray[np.float32]) -> Slide:
        def with_bias(layer: nn.Linear) -> NDArray[np.float32]:
            return torch.cat([layer.weight, layer.bias[:, None]], 1).detach().numpy()

        patterns = self.patterns.numpy()
        return Slide(
            centre=self.centre.numpy(),
            spread=self.spread.numpy(),
            first=with_bias(self.first),
            second=with_bias(self.second),
            straight=self.straight.weight.detach().numpy(),
            bent=self.bent.weight.detach().numpy(),
            patterns=patterns.reshape(len(patterns), -1, 2),
            axes=axes,
        )


def _at_rest(rows: Tensor) -> Tensor:
    """Rows of the same photos that do not move: pose and gaze 0, the photo's own expression."""
    still = rows.clone()
    still[:, 2:_PERSON] = 0
    own = slice(_PERSON, _PERSON + N_EXPRESSION)
    still[:, _PERSON + N_EXPRESSION : _PERSON + 2 * N_EXPRESSION] = rows[:, own]
    return still


def fit(clips: list[dict[str, NDArray[np.generic]]], seed: int = 0) -> tuple[Slide, float]:
    """Train on measurements; returns the slide and what it explains on held-out faces' flow.

    Args:
        clips: what :func:`measure` found, and ``person``.

    Raises:
        InputError: Fewer than two people.
    """
    people, held = split(clips, "flow", _HELD_OUT)
    rows = np.concatenate([c["observed"] for c in clips]).astype(np.float32)
    flow = np.concatenate([c["flow"] for c in clips]).astype(np.float32)
    basis = FaceBasis.load()
    flow *= _free(basis)[:, None]
    rows = np.concatenate([rows, _mirrored_rows(rows, basis)])
    flow = np.concatenate([flow, _mirrored_flow(flow)])
    people, held = np.tile(people, 2), np.tile(held, 2)
    seen = believed(flow)
    flow[~seen] = 0
    network = _fitted(rows[~held], flow[~held], seen[~held], people[~held], seed)
    with torch.no_grad():
        guess = network(torch.from_numpy(rows)).reshape(flow.shape).numpy()
    rest = np.where(seen[..., None], flow - guess, 0.0)
    face = np.arange(flow.shape[1]) < topology.N_FACE
    whole, left = (float(np.square(f[held][:, face]).sum()) for f in (flow, rest))
    weight = np.repeat(np.where(face, 1.0, AROUND), 2)
    rows = rest[~held].reshape(int((~held).sum()), -1)
    axes, _ = principal(rows, share_of(people[~held]), weight, N_SKIN)
    axes = axes.reshape(N_SKIN, -1, 2).astype(np.float32)
    return network.slide(axes), 1 - left / whole


def share_of(people: NDArray[np.str_]) -> Floats:
    """Of every row: a person counts by the square root of their rows."""
    _, which, count = np.unique(people, return_inverse=True, return_counts=True)
    share = 1 / np.sqrt(count[which])
    return np.asarray(share / share.sum())


def _fitted(
    rows: Floats, flow: Floats, seen: NDArray[np.bool_], people: NDArray[np.str_], seed: int
) -> SlideNet:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    some = rng.choice(len(flow), min(len(flow), 6000), replace=False)
    patterns = np.linalg.svd(flow[some].reshape(len(some), -1), full_matrices=False)[2]
    patterns = 0.05 * patterns[:_PATTERNS]
    spread = np.maximum(rows.std(axis=0), 0.02)
    network = SlideNet(rows.mean(axis=0), spread, patterns.astype(np.float32))
    optimiser = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=_STEPS)
    share = share_of(people)
    x, y, w = torch.from_numpy(rows), torch.from_numpy(flow), torch.from_numpy(seen)[..., None]
    for _ in range(_STEPS):
        pick = torch.from_numpy(rng.choice(len(rows), _BATCH, p=share))
        apart = (network(x[pick]).reshape(len(pick), -1, 2) - y[pick]) * w[pick] / _HUBER
        loss = F.huber_loss(apart, torch.zeros_like(apart))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def _free(basis: FaceBasis) -> Floats:
    """(V,) 0 at the rims of lips and lids, which mark what is seen, 1 away from them."""
    rims = [*topology.INNER_LIPS, *topology.LEFT_EYE, *topology.RIGHT_EYE]
    face = basis.mean[: topology.N_FACE, :2]
    away = np.linalg.norm(face[:, None] - face[None, rims], axis=2).min(axis=1)
    free = np.ones(skin.N_VERTICES, np.float32)
    free[: topology.N_FACE] = np.clip(away / _RIM, 0, 1)
    return free


def _mirrored_rows(rows: Floats, basis: FaceBasis) -> Floats:
    """What would be observed in the mirror."""
    flips = [flip(p) for p in (basis.expression, basis.expression, basis.identity)]
    ends = _PERSON + np.array([0, N_EXPRESSION, 2 * N_EXPRESSION])
    head = rows[:, :_PERSON] * np.array([-1, 1, -1, 1, -1, -1, 1, 1, -1, 1])
    parts = np.split(rows, ends, axis=1)[1:]
    return np.concatenate(
        [head, *(part @ flip for part, flip in zip(parts, flips, strict=True))], axis=1
    ).astype(np.float32)


def flip(patterns: Floats) -> Floats:
    """(K, K) that takes coefficients (..., K) of patterns (K, 478, 3) to the mirror image's."""
    flat = patterns.reshape(len(patterns), -1)
    image = mirrored(patterns).reshape(len(patterns), -1)
    return np.asarray(np.linalg.lstsq(flat.T, image.T, rcond=None)[0].T)


def mirrored_vertices(count: int) -> NDArray[np.intp]:
    """For each of ``count`` vertices of the mesh the one on the other side."""
    round_ = len(topology.FACE_OVAL)  # the oval, and each ring, begins in the middle, at the top
    rings = np.arange(topology.N_FACE, count).reshape(-1, round_)
    return np.r_[topology.MIRROR[: topology.N_FACE], rings[:, -np.arange(round_)].ravel()]


def _mirrored_flow(flow: Floats) -> Floats:
    return flow[:, mirrored_vertices(flow.shape[1])] * np.array([-1, 1], np.float32)
