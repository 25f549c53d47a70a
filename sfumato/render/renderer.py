"""From a portrait and one frame of motion to a picture.

The person's texture is warped by one mesh and laid over the background; mouth and eyes, which a
warp cannot open and turn, are drawn on top. What a learned decoder needs beside the picture is
handed over with it: geometry, the warp and the matte. A decoder mends the frame.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology, warp
from sfumato.geometry.pose import compose
from sfumato.geometry.ramp import smoothstep
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.render import skin
from sfumato.render.brighten import brighten
from sfumato.render.decoder import Decoder
from sfumato.render.eyes import paint_eyes
from sfumato.render.frame import Drawn, Rendered
from sfumato.render.lids import draw_lids, paint_lids
from sfumato.render.light import Lamp, Light
from sfumato.render.mouth import paint_mouth
from sfumato.render.paint import Coat
from sfumato.render.portrait import DENSITY, Portrait
from sfumato.render.slide import Slide

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

_STEP = 2  # canvas pixels per pixel of the warp field
_SMALL = 128  # pixels of the small canvas on which light is reckoned
_BORDER = 0.12  # share of the side over which a pinned canvas comes to rest


@dataclass(frozen=True)
class _Moved:
    """Where everything is in a frame, and how it is lit.

    Attributes:
        landmarks, field: see :class:`Rendered`.
        gains: (128, 128) gain less one of the light on a small canvas; None: as in the photo.
    """

    landmarks: Floats
    field: Floats
    gains: Floats | None


class Renderer:
    """Draws frames of one portrait. Holds no state that a frame could change.

    Args:
        slide: how skin moves where the mesh does not say; None: not at all.
        light: how the light on it changes; None: not at all.
        decoder: mends what the explicit renderer draws with both; None leaves it as it is.
    """

    def __init__(
        self,
        portrait: Portrait,
        basis: FaceBasis,
        slide: Slide | None = None,
        light: Light | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self.portrait = portrait
        self._made_of = (portrait, basis, slide, light, decoder)
        self._basis = basis
        self._person = basis.person(portrait.latents)
        self._slide = slide
        self._decoder = decoder
        self._known = decoder.study(portrait) if decoder is not None else None
        size = portrait.canvas.size
        self._coarse = portrait.canvas.to_texture(_grid(size, _STEP))
        self._source = portrait.canvas.to_texture(portrait.mesh.vertices[:, :2])
        self._window = (
            np.dstack([_window(size // _STEP, _BORDER, portrait.pinned)] * 2)
            if any(portrait.pinned)
            else None
        )
        # Behind everything; where the person is opaque there is nothing.
        self._background = _four(portrait.background)
        texture = portrait.person.shape[0]
        shrunk = texture * _SMALL // (DENSITY * size)
        self._shrink = shrunk / texture
        fine = portrait.canvas.to_texture(_grid(size, 1))
        small = cv2.resize(fine, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
        self._small_place = self._small(np.asarray(small, np.float32))
        at = self._small(self._source)
        self._lamp = None if light is None else Lamp(light, portrait, at, shrunk)

    def __reduce__(self) -> tuple[object, ...]:
        return Renderer, self._made_of

    def render(
        self, frame: MotionFrame, helper: Executor | None = None, *, plain: bool = False
    ) -> Rendered:
        """Draw one frame: a pure function of its arguments but ``helper``, and of the portrait.

        Args:
            helper: draws parts of the frame meanwhile, the same pixels sooner, where a core is
                free: for frames that come one by one. Of many, draw several at a time instead.
            plain: leave it as the explicit renderer drew it, in less than half of the time.
        """
        moved = self._moved(frame)
        drawn = self._drawn(frame, moved, helper)
        if self._decoder is not None and self._known is not None and not plain:
            for part in self._decoder.mended(self._known, drawn, helper):
                part.lay(drawn.picture)
        return drawn.rendered()

    def kept(self, frame: MotionFrame) -> Image:
        """The decoder's confidence mask of a frame, (S, S) uint8.

        255 where it leaves what the explicit renderer drew, 0 where all is new; 255 everywhere
        without a decoder.
        """
        drawn = self._drawn(frame, self._moved(frame))
        if self._decoder is None or self._known is None:
            return np.full_like(drawn.alpha, 255)
        return self._decoder.kept(self._known, drawn)

    def vertices(self, frame: MotionFrame) -> Floats:
        """Vertices (V, 3) float32 of the mesh in a frame, canvas pixels."""
        return self._placed(frame)[1]

    def _moved(self, frame: MotionFrame) -> _Moved:
        landmarks, vertices = self._placed(frame)
        field = self._field(vertices)
        if self._lamp is None:
            return _Moved(landmarks, field, None)
        coarse = cv2.resize(field, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
        place = np.asarray(cv2.scaleAdd(coarse, self._shrink, self._small_place), np.float32)
        return _Moved(landmarks, field, self._lamp.gains(frame, place))

    def _placed(self, frame: MotionFrame) -> tuple[Floats, Floats]:
        """Landmarks (478, 3) and vertices (V, 3)."""
        portrait = self.portrait
        rest = portrait.latents.pose
        pose = compose(rest, frame.pose)
        landmarks = self._basis.drive(portrait.latents, frame, self._person)
        landmarks = skin.flatten(portrait.mesh, rest, pose, landmarks)
        slide = self._slid(frame)
        breath = float(frame.breath)
        face, vertices = skin.deform(portrait.mesh, rest, pose, landmarks, slide, breath)
        landmarks[: topology.N_FACE] = face
        return landmarks, vertices

    def _slid(self, frame: MotionFrame) -> Floats:
        if self._slide is None:
            return np.zeros((skin.N_VERTICES, 2), np.float32)
        return self._slide.of(self.portrait.latents, frame)

    def _small(self, points: NDArray[np.floating]) -> Floats:
        """Texture pixels (..., 2) as pixels of the same texture, small."""
        return np.asarray((points + 0.5) * self._shrink - 0.5, np.float32)

    def _paint(self, moved: _Moved) -> tuple[list[Coat], list[Coat]]:
        """What is painted on the mouth, and on the eyes."""
        portrait, landmarks = self.portrait, moved.landmarks
        shape = (portrait.canvas.size,) * 2
        mouth = paint_mouth(portrait.mouth, landmarks, shape)
        eyes = paint_eyes(portrait.eyes, landmarks, shape)
        return mouth, eyes + paint_lids(portrait.lids, landmarks, shape)

    def _drawn(self, frame: MotionFrame, moved: _Moved, helper: Executor | None = None) -> Drawn:
        """The explicit frame, lit."""
        landmarks = moved.landmarks
        painting = None if helper is None else helper.submit(self._paint, moved)
        picture, alpha, lookup = self._layers(moved.field)
        image = picture[..., :3]
        mouth, eyes = self._paint(moved) if painting is None else painting.result()
        for coat in mouth:
            coat.lay(image)
        draw_lids(image, self.portrait.lids, landmarks, lookup)
        for coat in eyes:
            coat.lay(image)
        _light(picture, alpha, moved.gains)
        return Drawn(picture, alpha, landmarks, moved.field, frame.interior)

    def _layers(self, field: Floats) -> tuple[Image, Image, Floats]:
        """Moved person over the background, the person's matte, and where pixels came from."""
        size = self.portrait.canvas.size
        lookup = np.asarray(cv2.resize(cv2.add(field, self._coarse), (size, size)), np.float32)
        # Outside of the outermost centres of blocks an enlargement stands still.
        beyond = np.float32(0.5 * (_STEP - 1) * DENSITY)
        lookup[:, 0, 0] -= beyond
        lookup[:, -1, 0] += beyond
        lookup[0, :, 1] -= beyond
        lookup[-1, :, 1] += beyond
        person = _sampled(self.portrait.person, lookup)
        alpha = _matte(person)
        return _over(person, alpha, self._background), alpha, lookup

    def _field(self, vertices: Floats) -> Floats:
        """Displacement (S / 2, S / 2, 2) in texture pixels that brings every pixel's colour."""
        here = np.ascontiguousarray(vertices[:, :2])
        points = ((here + np.float32(0.5)) / np.float32(_STEP) - np.float32(0.5)).astype(np.float32)
        # What is linear in a triangle stays so when something linear is taken off.
        moves = self._source - self.portrait.canvas.to_texture(here)
        size = self.portrait.canvas.size // _STEP
        field = warp.rasterise(
            points, vertices[:, 2], moves, self.portrait.mesh.triangles, (size, size)
        )
        if self._window is not None:
            cv2.multiply(field, self._window, dst=field)
        return field


def paste(photo: Image, frame: Image, matrix: NDArray[np.float64]) -> Image:
    """Put a pinned canvas back into the whole photo.

    Args:
        photo: (H, W, 3) uint8 RGB.
        frame: (S, S, 3) uint8 RGB, rendered from a portrait prepared with ``pinned=True``.
        matrix: (2, 3) photo to canvas pixels, ``Canvas.matrix``.

    Returns:
        (H, W, 3) uint8: the photo with the moving part blended in over a feathered border.
    """
    size = frame.shape[0]
    scale, left, top = matrix[0, 0], matrix[0, 2], matrix[1, 2]
    x0, y0 = (max(0, int(np.ceil(-edge / scale))) for edge in (left, top))
    x1 = min(photo.shape[1], int((size - 1 - left) / scale) + 1)
    y1 = min(photo.shape[0], int((size - 1 - top) / scale) + 1)
    local = np.array([[scale, 0, left + scale * x0], [0, scale, top + scale * y0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(frame, local, (x1 - x0, y1 - y0), flags=flags)
    # Where the canvas ends with the photo at the top, hair may move in: nothing to blend with.
    feather = _window(size, 0.3 * _BORDER, (top < -0.5 * scale, True, True, True))
    share = cv2.warpAffine(feather, local, (x1 - x0, y1 - y0), flags=flags)
    result = photo.copy()
    part = np.ascontiguousarray(result[y0:y1, x0:x1])
    result[y0:y1, x0:x1] = cv2.blendLinear(moved, part, share, 1 - share)
    return result


def _light(picture: Image, alpha: Image, gains: Floats | None) -> None:
    """Light the person in a picture (S, S, 4) with the person's matte (S, S), in place.

    Args:
        gains: (N, N) of the light, less one; N pixels span the picture.
    """
    if gains is None:
        return
    side = gains.shape[0]
    matte = _shrunk(_shrunk(alpha, 2 * side), side)
    share = cv2.multiply(gains, matte, scale=1 / 255, dtype=cv2.CV_32F)
    small = _shrunk(_shrunk(picture, 2 * side), side)
    share = cv2.cvtColor(share, cv2.COLOR_GRAY2RGBA)  # of four channels; the last has no meaning
    brighten(picture, np.asarray(cv2.multiply(small, share, dtype=cv2.CV_32F), np.float32))


def _sampled(person: Image, place: Floats) -> Image:
    """Colours and matte (H, W, 4) of the person at texture pixels ``place`` (H, W, 2)."""
    mode = cv2.BORDER_REPLICATE
    return cv2.remap(person, place, None, cv2.INTER_LINEAR, borderMode=mode)  # type: ignore[call-overload, no-any-return]  # stubs want a second map


def _shrunk(picture: Image, side: int) -> Image:
    """Means of blocks; by halves, in turn, it is five times faster than by quarters."""
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _matte(person: Image) -> Image:
    return np.asarray(cv2.extractChannel(person, 3), np.uint8)


def _four(picture: Image) -> Image:
    """(H, W, 4): a picture with a channel of nothing, see :mod:`sfumato.render.mend`."""
    return np.dstack([picture, np.zeros_like(picture[..., :1])])


def _over(person: Image, alpha: Image, background: Image) -> Image:
    """Premultiplied person over the background, both (H, W, 4); writes over the person."""
    behind = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2RGBA)
    shaded = cv2.multiply(background, behind, dst=behind, scale=1 / 255)
    return np.asarray(cv2.add(shaded, person, dst=person), np.uint8)


def _grid(size: int, step: int) -> Floats:
    """Canvas pixels (size / step, size / step, 2) at the centres of step x step blocks."""
    line = (np.arange(size // step, dtype=np.float32) + 0.5) * step - 0.5
    return np.stack(np.meshgrid(line, line), axis=2)


def _window(size: int, width: float, pinned: tuple[bool, bool, bool, bool]) -> Floats:
    """(size, size): 1 inside, falling over a share of the side to 0 at the pinned borders."""
    rise = smoothstep(np.arange(size, dtype=np.float32) / np.float32(width * size))
    free = np.ones_like(rise)
    top, bottom, left, right = (rise if pin else free for pin in pinned)
    result: Floats = np.minimum(
        np.minimum(top, bottom[::-1])[:, None], np.minimum(left, right[::-1])
    )
    return result
