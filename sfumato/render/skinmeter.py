"""What a video shows of skin and light that landmarks do not tell: analysis by synthesis.

One frame of the video serves as a photo and is driven to the others by their landmarks. The
optical flow (DIS, Kroeger et al. 2016) from what is drawn to what was there, read at every vertex
of the mesh, becomes the ``skin`` of the motion: how far along each axis of
:class:`sfumato.render.slide.Slide` the skin lies beside where it usually would. How much brighter
the same skin is than it is drawn becomes the ``light``, along those of
:class:`sfumato.render.light.Light`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.facefit import blur_in_time, fill_gaps, steady
from sfumato.geometry import topology
from sfumato.geometry.crop import transform
from sfumato.geometry.pose import compose
from sfumato.latent import FaceBasis, Motion, MotionFrame
from sfumato.motionfile import N_LIGHT, N_SKIN
from sfumato.render.frame import Rendered
from sfumato.render.light import DARK, Light, at_vertices, blurred
from sfumato.render.portrait import Portrait
from sfumato.render.renderer import Renderer
from sfumato.render.slide import Slide

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

MOST = 4.0  # standard deviations
_FLOW_SIDE = 384  # pixels of the canvas, made small
_BLUR = 3.0  # of them: the flow
_FARTHEST = 0.12  # face units: longer flow is a mistake
_of_this_thread = threading.local()
# Face units: error of the flow at a vertex, as if vertices erred each by itself.
_NOISE = 0.01
_LIGHT_NOISE = 0.03  # the same of the logarithm of a gain
_MOST_LIGHT = 0.8  # of it: more is a mistake
_TURNED = 0.1  # radians that make a frame as unlike rest as a face in usual motion does
AROUND = 0.1  # weight of a vertex in hair, neck and shoulders


class SkinMeter:
    """Measures skin and light in frames of one video. Holds no state that a frame could change.

    Args:
        portrait: made of one of the video's frames.
        slide, light: what is usual, and the axes; None: nothing is known, and nothing is told.
        shape: (height, width, ...) of the video's pictures.
    """

    def __init__(
        self,
        portrait: Portrait,
        basis: FaceBasis,
        slide: Slide | None,
        light: Light | None,
        shape: tuple[int, ...],
    ) -> None:
        self._renderer = Renderer(portrait, basis, slide, light)
        self._basis, self._person = basis, portrait.latents
        self._size, self._matrix = portrait.canvas.size, portrait.canvas.matrix
        whole = np.full(shape[:2], 255, np.uint8)
        self._valid = cv2.warpAffine(whole, self._matrix, (self._size, self._size)) > 254
        count = len(portrait.mesh.vertices)
        self._slides = _axes(slide, (N_SKIN, 2 * count))
        self._lights = _axes(light, (N_LIGHT, count))

    def shown(self, picture: Image, motion: MotionFrame) -> tuple[Floats, Floats]:
        """How skin and light differ from what is drawn of ``motion``.

        Args:
            picture: (H, W, 3) uint8 RGB, a frame of the video.

        Returns:
            (V, 2) how far skin lies beside, face units, upright; (V,) the natural logarithm of how
            much brighter it is. NaN where the video does not show a vertex.
        """
        drawn = self._renderer.render(motion)
        side = (self._size, self._size)
        there = cv2.warpAffine(picture, self._matrix, side, flags=cv2.INTER_LINEAR)
        real = np.asarray(np.where(self._valid[..., None], there, drawn.image), np.uint8)
        zoom = self._size / _FLOW_SIDE
        flow = zoom * _dis().calc(_small_grey(drawn.image), _small_grey(real), None)  # type: ignore[call-overload]  # stubs want a flow
        flow = cv2.GaussianBlur(flow, (0, 0), _BLUR)
        vertices = self._renderer.vertices(motion)[:, :2]
        at = ((vertices + 0.5) / zoom - 0.5).astype(np.float32)
        moved = cv2.remap(flow, at[None], None, cv2.INTER_LINEAR)[0]  # type: ignore[call-overload]  # stubs want a second map
        unseen = ~_inside(self._valid, vertices)
        brighter = _brighter(drawn, real, vertices, moved)
        moved[unseen] = brighter[unseen] = np.nan
        pose = compose(self._person.pose, motion.pose)
        cos, sin = np.cos(pose.roll), np.sin(pose.roll)
        upright = moved @ np.array([[cos, -sin], [sin, cos]]) / pose.scale
        return upright, brighter

    def measure(
        self, picture: Image, motion: MotionFrame
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the picture shows, standard deviations; ``motion`` is its landmarks'.

        Returns:
            ``skin`` (N_SKIN,) and ``light`` (N_LIGHT,): the likeliest numbers where axes vary by a
            standard deviation, and what is read at vertices errs by ``_NOISE``, ``_LIGHT_NOISE``.
        """
        flow, brighter = self.shown(picture, motion)
        seen = believed(flow)
        trust = np.where(np.arange(len(flow)) < topology.N_FACE, 1.0, AROUND)
        weight = np.repeat(trust * seen / _NOISE**2, 2)
        skin = _likeliest(self._slides, weight, np.where(seen[:, None], flow, 0.0).ravel())
        seen = lit(brighter)
        weight = trust * seen / _LIGHT_NOISE**2
        return skin, _likeliest(self._lights, weight, np.where(seen, brighter, 0.0))

    def follow(
        self, pictures: Iterable[Image], tracks: Floats, threads: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """:meth:`measure` of frames that follow each other, smoothed in time.

        Args:
            tracks: (T, 478, 3) landmarks in pixels of the video; where they are NaN, as no face was
                found, skin and light are as usual.
            threads: frames that are measured at the same time.

        Returns:
            (T, N_SKIN) and (T, N_LIGHT).
        """
        seen = faces_in(tracks)
        places = transform(self._matrix, steady(fill_gaps(tracks)))
        motions = (self._basis.fit_frame(self._person, place) for place in places)
        pairs = zip(pictures, motions, strict=True)
        found: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        with ThreadPoolExecutor(threads) as pool:
            while some := list(islice(pairs, threads)):
                found += pool.map(lambda pair: self.measure(*pair), some)
        skin, light = (blur_in_time(np.array(rows)) for rows in zip(*found, strict=True))
        skin[~seen] = light[~seen] = 0
        return skin.astype(np.float32), light.astype(np.float32)


def _brighter(drawn: Rendered, real: Image, vertices: Floats, moved: Floats) -> Floats:
    """(V,) natural logarithm of the real light of skin over that which was drawn.

    Args:
        vertices: (V, 2) where it was drawn; ``moved`` (V, 2) how far from there it really lies.
    """
    made = at_vertices(*blurred(drawn.image, drawn.alpha, drawn.landmarks), vertices)
    there = at_vertices(*blurred(real, drawn.alpha, drawn.landmarks), vertices + moved)
    return np.log((there + DARK) / (made + DARK))


def _axes(usual: Slide | Light | None, shape: tuple[int, int]) -> Floats:
    """Axes of skin or light; all 0 where none are known, along which nothing is ever told."""
    return np.zeros(shape) if usual is None else usual.axes.reshape(shape)


def _likeliest(axes: Floats, weight: Floats, shown: Floats) -> NDArray[np.float32]:
    """Numbers (K,) along axes (K, N) that vary by 1, for what was shown (N,) with its weights."""
    weighted = axes.astype(np.float64) * weight
    left = weighted @ axes.T + np.eye(len(axes))
    return np.asarray(np.clip(np.linalg.solve(left, weighted @ shown), -MOST, MOST), np.float32)


def faces_in(tracks: Floats) -> NDArray[np.bool_]:
    """Which frames of tracks (T, 478, 3) show a face: (T,)."""
    return np.asarray(np.isfinite(tracks).all(axis=(1, 2)))


def calmest(motion: Motion, seen: NDArray[np.bool_]) -> int:
    """The frame nearest to rest among those that were ``seen`` (T,): it serves as the photo."""
    face = np.square(motion.expression).mean(axis=1)
    turn = np.square(motion.pose[:, :3] / _TURNED).sum(axis=1)
    return int(np.argmin(np.where(seen, face + turn, np.inf)))


def believed(flow: Floats) -> NDArray[np.bool_]:
    """Which vertices of flow (..., V, 2) in face units are seen and not mistaken: (..., V)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.linalg.norm(flow, axis=-1) < _FARTHEST)


def lit(brighter: Floats) -> NDArray[np.bool_]:
    """Which logarithms of gains (...) are seen and not mistaken."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(brighter) < _MOST_LIGHT)


def _dis() -> cv2.DISOpticalFlow:
    """One for every thread, kept: its buffers take a third of the time to make."""
    if not hasattr(_of_this_thread, "dis"):
        _of_this_thread.dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found: cv2.DISOpticalFlow = _of_this_thread.dis
    return found


def _small_grey(picture: Image) -> Image:
    small = cv2.resize(picture, (_FLOW_SIDE, _FLOW_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _inside(valid: NDArray[np.bool_], points: Floats) -> NDArray[np.bool_]:
    """Which points (V, 2) lie where ``valid`` (S, S) says yes."""
    at = np.rint(points).astype(int)
    inside = ((at > 1) & (at < len(valid) - 2)).all(axis=1)
    at = np.clip(at, 0, len(valid) - 1)
    return np.asarray(inside & valid[at[:, 1], at[:, 0]])
