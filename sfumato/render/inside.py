"""The inside of a mouth in the picture's own colours, and with teeth that one could count.

What a network paints between the lips has the light of the mouths that it learned from, and much of
their colour: under old varnish, in stone or in a drawing that is lilac. The explicit renderer mixes
teeth, flesh and shadow from the picture itself (:mod:`sfumato.render.palette`); here what was
painted keeps its light and takes those colours.

Of a mouth that is closed in the photo a network cannot know the teeth: it paints the mean of all
that could be there, which looks like none of them. How light it is in there, and where, it does
know. So there the explicit renderer's teeth and tongue stay, in the network's light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology
from sfumato.geometry.distances import eye_distance, lip_opening
from sfumato.geometry.ramp import step
from sfumato.render.mend import Mended
from sfumato.render.mouth import MouthLayer
from sfumato.render.tint import lab

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_LEAST = 0.1  # difference of red over luma between flesh and teeth
_CHEEKS = (50, 280, 205, 425)
# Yellow of the cheeks (CIELAB b): that of people in daylight, that of varnish.
_LIVING, _VARNISHED = 26.0, 36.0
_DEEPER = 0.4  # power by which varnish deepens what is not in full light
_PAINTED = 16.0  # levels of change from which a pixel counts as painted anew
_EDGE = 0.003  # of the picture's side: softness of the rim
_HIDDEN, _SHOWN = 0.02, 0.06  # opening in eye distances: a photo shows no teeth, or its own
_LIGHT = 0.012  # of the picture's side: light changes over so much, teeth within less
_RELIGHT = (0.3, 1.3)  # least and most light that a network gives to what is drawn
_DRAWN = 0.8  # share of what is drawn in a mouth that is closed in the photo; the rest is the mean
_SOFT = 0.0016  # of the picture's side: as soft as mouths are in video


@dataclass(frozen=True)
class Inside:
    """Colours of one portrait's mouth.

    Attributes:
        teeth, flesh: (256, 3) float32 colours by luma.
        red: red over luma of teeth; span: how much more flesh has of it.
        full: luma of teeth in full light.
        depth: power on the luma below that; 1 leaves it.
        unknown: 1 for a photo whose mouth is closed, 0 for one that shows what is in it.
        one_tint: a print in one tint, in which all that is new has its tint already.
    """

    teeth: Floats
    flesh: Floats
    red: float
    span: float
    full: float
    depth: float
    unknown: float
    one_tint: bool

    @staticmethod
    def of(layer: MouthLayer, picture: Image, landmarks: Floats, one_tint: bool) -> Inside:
        """Mixed from a portrait.

        Args:
            picture: (S, S, 3) uint8 RGB; landmarks: (478, 3) in its pixels.
        """
        red, more = _red(layer.enamel), _red(layer.tongue)
        points = landmarks[:, :2]
        opening = float(lip_opening(points)) / max(float(eye_distance(points)), 1.0)
        return Inside(
            teeth=_by_luma([layer.dark, layer.enamel]),
            flesh=_by_luma([layer.dark, layer.deep, layer.tongue]),
            red=red,
            span=max(more - red, _LEAST),
            full=max(float(layer.enamel @ _LUMA), 1.0),
            depth=1 + _DEEPER * _varnish(picture, landmarks),
            unknown=1 - step((opening - _HIDDEN) / (_SHOWN - _HIDDEN)),
            one_tint=one_tint,
        )

    def colour(self, patch: Mended, landmarks: Floats, size: int) -> None:
        """Bring what was painted between the lips to this mouth, in place.

        Args:
            landmarks: (478, 3) of the frame, canvas pixels; size: side of the canvas.
        """
        rows, cols = patch.place.rows, patch.place.cols
        ring = landmarks[list(topology.INNER_LIPS), :2] - (cols.start, rows.start)
        margin = 2 + round(3 * _EDGE * size)
        low = np.maximum(np.floor(ring.min(axis=0)).astype(int) - margin, 0)
        high = np.ceil(ring.max(axis=0)).astype(int) + margin
        box = np.s_[low[1] : high[1], low[0] : high[0]]
        part = patch.over[box]
        if part.size == 0:
            return
        mask = np.zeros(part.shape[:2], np.uint8)
        points = np.round(16 * (ring - low)).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
        share = cv2.GaussianBlur(mask, (0, 0), _EDGE * size).astype(np.float32)[..., None] / 255
        colours, drawn = part[..., :3], patch.drawn[box][..., :3]
        change = np.abs(colours - drawn).max(axis=2, keepdims=True)
        painted = np.minimum(change / _PAINTED, 1)
        wanted = colours if self.one_tint else self.recoloured(colours)
        if self.unknown > 0:
            known = relit(drawn, colours, mask, size)
            wanted = wanted + (known - wanted) * (_DRAWN * self.unknown)
            painted = np.maximum(painted, self.unknown)
        colours += (wanted - colours) * (share * painted)

    def recoloured(self, colours: Floats) -> Floats:
        """Colours (..., 3) in 0..255 with the hues of this mouth."""
        luma = np.clip(colours @ _LUMA, 0, 255)
        red = colours[..., 0] / np.maximum(luma, 1)
        flesh = np.clip((red - self.red) / self.span, 0, 1)[..., None]
        if self.depth > 1:
            luma = luma * np.minimum(luma / self.full, 1) ** (self.depth - 1)
        level = (luma + np.float32(0.5)).astype(np.uint8)
        mixed: Floats = self.teeth[level] + (self.flesh[level] - self.teeth[level]) * flesh
        return mixed


def relit(drawn: Image, lit: Floats, mask: Image, size: int) -> Floats:
    """Colours (h, w, 3) of what is drawn, in the light of something else at the same place.

    Args:
        drawn: (h, w, 3) uint8; lit: (h, w, 3) float32, 0..255.
        mask: (h, w) uint8, where both count.
        size: side of the canvas.
    """
    soft = cv2.GaussianBlur(drawn.astype(np.float32), (0, 0), _SOFT * size)
    weight = mask.astype(np.float32)
    there, here = (
        cv2.GaussianBlur((colours @ _LUMA) * weight, (0, 0), _LIGHT * size)
        for colours in (lit, soft)
    )
    ratio = np.clip(there / np.maximum(here, 1.0), *_RELIGHT)
    return np.asarray(soft * ratio[..., None], np.float32)


def _by_luma(colours: list[NDArray[np.floating]]) -> Floats:
    """Colours (256, 3) on the way from black over these to white light on the last."""
    known = sorted((float(c @ _LUMA), c.tolist()) for c in colours)
    levels = [0.0, *(level for level, _ in known), 255.0]
    top, brightest = known[-1]
    ends = [[0.0] * 3, *(c for _, c in known), [255 * v / max(top, 1.0) for v in brightest]]
    luma = np.arange(256, dtype=np.float32)
    mixed = np.stack([np.interp(luma, levels, column) for column in zip(*ends, strict=True)], 1)
    mixed *= (luma / np.maximum(mixed @ _LUMA, 1e-3))[:, None]
    return np.asarray(np.clip(mixed, 0, 255), np.float32)


def _red(colour: NDArray[np.floating]) -> float:
    return float(colour[0] / max(float(colour @ _LUMA), 1.0))


def _varnish(picture: Image, landmarks: Floats) -> float:
    """How much of old varnish a picture has, 0 to 1, by the yellow of the cheeks."""
    reach = max(round(0.008 * picture.shape[0]), 1)
    yellow = []
    for x, y in landmarks[list(_CHEEKS), :2].round().astype(int):
        spot = picture[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        if spot.size:
            yellow.append(float(lab(spot)[..., 2].mean()))
    if not yellow:
        return 0.0
    return step((float(np.mean(yellow)) - _LIVING) / (_VARNISHED - _LIVING))
