"""Batches of pairs for the decoder, from the cache of :mod:`sfumato.train.decoder_cache`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.corpus import watchers
from sfumato.errors import InputError
from sfumato.models.decoder import SHIFT_UNIT
from sfumato.train.decoder_cache import unpack
from sfumato.train.styles import painted

Image = NDArray[np.uint8]
Rng = np.random.Generator

_HELD_OUT = 12  # one person in so many only validates
_SHARP = 8.0  # a clip of 512 pixels counts as much as so many of 256
_PAINTED = 0.2  # share of the pairs that are turned into drawings and paintings
_GREY = 0.12
_UNTOLD = 0.15  # share of the pairs whose mouth shows what is usual, as far as is told
_OLD = 0.4  # share of the pictures under a strong colour cast, like old varnish:
_CAST = 0.35  # its spread; the colours of teeth must come from the picture


@dataclass(frozen=True)
class Batch:
    """B pairs of frames that follow each other: 2 B frames, all first ones first.

    Attributes:
        photo: (B, 5, H, W) float32 in [0, 1], RGB and two masks.
        drawn, real: (2 B, 3, H, W) float32 in [-1, 1].
        masks: (2 B, 2, H, W) float32 in [0, 1].
        shift: (2 B, 2, H / 4, W / 4) float32, units of SHIFT_UNIT patch pixels.
        interior: (2 B, N_INTERIOR) float32, see :mod:`sfumato.interior`.
    """

    photo: Tensor
    drawn: Tensor
    real: Tensor
    masks: Tensor
    shift: Tensor
    interior: Tensor

    def to(self, device: torch.device) -> Batch:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{k: _near(v.to(device, non_blocking=True)) for k, v in moved.items()})


@dataclass(frozen=True)
class _Frame:
    photo: bytes
    photo_masks: bytes
    drawn: bytes
    masks: bytes
    real: bytes
    shift: NDArray[np.float16]
    interior: NDArray[np.float16]


def _person(file: Path) -> str:
    with np.load(file) as archive:
        return str(archive["person"])


class Pairs:
    """Pairs of frames of one kind of patch; pictures stay JPEG until they are drawn.

    Args:
        files: the cache.
        name: kind of patch.
        held_out: people who validate instead of those who train.

    Raises:
        InputError: No pairs.
    """

    def __init__(self, files: list[Path], name: str, held_out: bool = False) -> None:
        self._pairs: list[tuple[_Frame, _Frame]] = []
        people: list[str] = []
        weights: list[float] = []
        watching = watchers(map(_person, files), _HELD_OUT)
        for file in files:
            with np.load(file) as archive:
                person, size = str(archive["person"]), int(archive["size"])
                if (person in watching) != held_out:
                    continue
                own = {k: archive[k] for k in archive.files if k.startswith(f"{name}.")}
            found = _pairs(own, name)
            self._pairs += found
            people += [person] * len(found)
            weights += [_SHARP if size >= 512 else 1.0] * len(found)
        if not self._pairs:
            raise InputError("no pairs to learn from: more clips of more people are needed")
        count = Counter(people)
        # A person with many pairs counts more than one with few, but not in proportion.
        each = np.array(weights) / np.sqrt([count[p] for p in people])
        each *= _rarity([_opening(first.masks) for first, _ in self._pairs])
        each *= _rarity([_opening(first.photo_masks) for first, _ in self._pairs])
        self._weights = each / each.sum()

    def __len__(self) -> int:
        return len(self._pairs)

    def draw(self, count: int, rng: Rng) -> Batch:
        """A batch of ``count`` pairs with a random look each."""
        picks = rng.choice(len(self._pairs), count, p=self._weights)
        return _batch([_augmented(_decoded(*self._pairs[int(i)]), rng) for i in picks])

    def spread(self, count: int) -> Batch:
        """``count`` pairs spread evenly over all, unchanged."""
        picks = np.linspace(0, len(self._pairs) - 1, count).astype(int)
        return _batch([_decoded(*self._pairs[int(i)]) for i in picks])


def _pairs(own: dict[str, NDArray[np.generic]], name: str) -> list[tuple[_Frame, _Frame]]:
    parts = {k: unpack(own, f"{name}.{k}") for k in ("photo", "photo_masks")}
    looks = {k: unpack(own, f"{name}.{k}") for k in ("drawn", "masks", "real")}
    owner, after, shift, interior = (
        own[f"{name}.{k}"] for k in ("owner", "after", "shift", "interior")
    )

    def frame(i: int) -> _Frame:
        o = int(owner[i])
        return _Frame(
            parts["photo"][o],
            parts["photo_masks"][o],
            looks["drawn"][i],
            looks["masks"][i],
            looks["real"][i],
            shift[i].astype(np.float16),
            interior[i].astype(np.float16),
        )

    return [(frame(i), frame(int(j))) for i, j in enumerate(after) if j >= 0]


def _opening(masks: bytes) -> float:
    """Share of the patch that an opening covers."""
    small = cv2.imdecode(np.frombuffer(masks, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
    return float(small[..., 2].mean())


def _rarity(openings: list[float]) -> NDArray[np.float64]:
    """Sampling factor: closed eyes and wide open mouths are rare, and must be learned.

    In photos as in frames: eyes that are shut in the photo open on nothing that it shows.
    """
    values = np.array(openings)
    bins = np.digitize(values, np.linspace(*np.quantile(values, [0.005, 0.995]), 10))
    factor = 1 / np.sqrt(np.bincount(bins)[bins])
    return np.asarray(np.minimum(factor / np.median(factor), 8.0))


@dataclass
class _Pair:
    """Decoded: one photo (uint8 (H, W, 5)), two frames each of the rest."""

    photo: Image
    photo_masks: Image
    drawn: list[Image]
    real: list[Image]
    masks: list[Image]
    shift: list[NDArray[np.float32]]
    interior: list[NDArray[np.float32]]


def _decoded(first: _Frame, second: _Frame) -> _Pair:
    both = (first, second)
    return _Pair(
        photo=_picture(first.photo),
        photo_masks=_picture(first.photo_masks)[..., :2],
        drawn=[_picture(f.drawn) for f in both],
        real=[_picture(f.real) for f in both],
        masks=[_picture(f.masks)[..., :2] for f in both],
        shift=[f.shift.astype(np.float32) for f in both],
        interior=[f.interior.astype(np.float32) for f in both],
    )


def _picture(jpeg: bytes) -> Image:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _augmented(pair: _Pair, rng: Rng) -> _Pair:
    """The same random look, or mirror image, for all pictures of a pair."""
    pictures = [pair.photo, *pair.drawn, *pair.real]
    if rng.random() < _PAINTED:
        look = int(rng.integers(2**31))
        pictures = [painted(p, np.random.default_rng(look)) for p in pictures]
    curves = _curves(rng)
    pictures = [np.take_along_axis(curves, p.reshape(-1, 3), 0).reshape(p.shape) for p in pictures]
    if rng.random() < _GREY:
        pictures = [np.repeat(_grey(p)[..., None], 3, 2) for p in pictures]
    masks, photo_masks, shift = pair.masks, pair.photo_masks, pair.shift
    interior = pair.interior
    if rng.random() < _UNTOLD:
        interior = [np.zeros_like(code) for code in interior]
    if rng.random() < 0.5:
        pictures = [p[:, ::-1] for p in pictures]
        masks, photo_masks = [m[:, ::-1] for m in masks], photo_masks[:, ::-1]
        shift = [s[:, ::-1] * np.array([-1, 1], np.float32) for s in shift]
    return _Pair(pictures[0], photo_masks, pictures[1:3], pictures[3:5], masks, shift, interior)


def _grey(picture: Image) -> Image:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _curves(rng: Rng) -> Image:
    """Tables (256, 3): light, contrast and tint of a picture."""
    x = np.linspace(0, 1, 256)[:, None]
    cast = np.exp(rng.normal(0, _CAST if rng.random() < _OLD else 0.12, 3))
    out = x ** np.exp(rng.normal(0, 0.2)) * cast / max(1.0, cast.max() / 1.15)
    out = (out - 0.5) * np.exp(rng.normal(0, 0.12)) + 0.5 + rng.normal(0, 0.03)
    return np.asarray(np.clip(out * 255 + 0.5, 0, 255), np.uint8)


def _batch(pairs: list[_Pair]) -> Batch:
    photos = [np.dstack([p.photo, p.photo_masks]) for p in pairs]
    ordered = [(p, i) for i in range(2) for p in pairs]
    return Batch(
        photo=_tensor(photos) / 255,
        drawn=_tensor([p.drawn[i] for p, i in ordered]) / 127.5 - 1,
        real=_tensor([p.real[i] for p, i in ordered]) / 127.5 - 1,
        masks=_tensor([p.masks[i] for p, i in ordered]) / 255,
        shift=_tensor([p.shift[i] for p, i in ordered]) / SHIFT_UNIT,
        interior=torch.from_numpy(np.stack([p.interior[i] for p, i in ordered])).float(),
    )


def _tensor(arrays: list[NDArray[np.generic]]) -> Tensor:
    """(H, W, C) arrays to (B, C, H, W) float32."""
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().contiguous()


def _near(tensor: Tensor) -> Tensor:
    """Pictures with their channels last, as convolutions like them."""
    if tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
