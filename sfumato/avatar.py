"""The library's front door: ``load`` the networks, make an ``Avatar`` of a photo, let it speak."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato import inspect, provenance
from sfumato.actor import follow
from sfumato.controls import check_seed
from sfumato.crew import Crew
from sfumato.errors import InputError, NoFaceError
from sfumato.helper import draw_here
from sfumato.landmarks import Face, FaceEncoder
from sfumato.latent import FaceBasis, Motion
from sfumato.media.audio import AudioReader
from sfumato.media.files import require_file, sha256_of
from sfumato.media.image import load_image
from sfumato.media.video import VideoWriter
from sfumato.motion import MotionGenerator, MotionStream, Options
from sfumato.render.decoder import Decoder
from sfumato.render.light import Light
from sfumato.render.portrait import Portrait, prepare
from sfumato.render.renderer import Renderer, paste
from sfumato.render.shut_eye import SHUT
from sfumato.render.slide import Slide
from sfumato.stream import Frame, Stream
from sfumato.timebase import FPS

Image = NDArray[np.uint8]
Progress = Callable[[int, "int | None"], None]
Pictures = Generator[Image, None, None]

SIZES = (256, 1024)
MIN_FACE_HEIGHT = 60  # pixels; below, the eyes have no pixels left to move
MAX_YAW = 45.0  # degrees; beyond, half of the face was never photographed
SOFT_YAW = 28.0
FULL_FRAME_SIDE = 1920  # a whole photo is shrunk to this: video players give up beyond


@dataclass(frozen=True)
class Clip:
    """A video that is made while it is read: iterate its frames, or :meth:`save` it.

    Attributes:
        frames: makes the frames anew at every call.
        total: number of frames, None when the recording does not tell its length.
        audio: recording to be heard, None for a silent video.
        inputs: SHA-256 of what went in, for the content credentials.
        threads: cores that may encode, beside those that draw.
    """

    frames: Callable[[], Pictures]
    total: int | None
    audio: Path | None
    inputs: dict[str, str]
    threads: int = 1

    def __iter__(self) -> Iterator[Image]:
        """(H, W, 3) uint8 RGB pictures at 25 a second."""
        return self.frames()

    def save(
        self,
        path: str | Path,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write an MP4 that is marked as synthetic; complete or absent, also when interrupted.

        Args:
            force: replace an existing file.
            progress: called with (frames done, frames in all or None).

        Raises:
            OutputError: The place cannot be written, or is taken and ``force`` is off.
            InputError: The recording turns out to be broken on the way.
        """
        finish = provenance.marker(**self.inputs)
        with closing(self.frames()) as pictures:
            first = next(pictures, None)
            if first is None:
                raise InputError("nothing to show: the motion has no frames")
            size = (first.shape[1], first.shape[0])
            writer = VideoWriter(
                path, size, self.audio, force=force, finish=finish, threads=self.threads
            )
            with writer:
                for done, image in enumerate(chain([first], pictures), 1):
                    writer.write(image)
                    if progress is not None:
                        progress(done, self.total)
        return writer.path


@dataclass(frozen=True)
class Prepared:
    """What was computed of a photo; pickled, another process makes its own avatar of it.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        face: the face in it.
        digest: SHA-256 of its file.
        full_frame: the whole photo is kept around the moving head.
        warnings: what may look wrong with it, a sentence each.
        portrait: layers and fitted head.
    """

    photo: Image
    face: Face
    digest: str
    full_frame: bool
    warnings: list[str]
    portrait: Portrait


class Avatar:
    """A photo, prepared once: it can be driven by sound, by motion, or live.

    Args:
        studio: networks and bases.
        prepared: the photo, see :meth:`Studio.avatar`.

    Attributes:
        prepared: the same without networks.
        warnings: what may look wrong with this photo, a sentence each.
        face: the face in the photo.
        digest: SHA-256 of the photo, for the content credentials.
        portrait: layers and fitted head.
    """

    def __init__(self, studio: Studio, prepared: Prepared) -> None:
        self._studio = studio
        self.prepared = prepared
        self.digest = prepared.digest
        self.face = prepared.face
        self.warnings = prepared.warnings
        self.portrait = prepared.portrait
        usual = studio.slide, studio.light
        self.renderer = Renderer(self.portrait, studio.basis, *usual, studio.decoder)

    def stream(self, *, seed: int = 0, options: Options | None = None) -> Stream:
        """A live stream: push samples, get frames of the moving square."""
        studio = self._studio
        return Stream(self.renderer, studio.generator, seed, options, studio.crew)

    def animate(self, audio: str | Path, *, seed: int = 0, options: Options | None = None) -> Clip:
        """The photo speaking, singing or rapping a recording.

        Args:
            audio: any file with sound that ffmpeg reads.
            seed: another seed moves the head and blinks differently; from 0.

        Raises:
            InputError: The recording is missing, broken or has no sound, or the seed is below 0.
        """
        check_seed(seed)
        path = Path(audio)
        with AudioReader(path) as reader:
            duration = reader.duration

        def frames() -> Pictures:
            for frame in self._spoken(path, seed, options):
                yield self._finished(frame.image)

        total = None if duration is None else max(1, round(duration * FPS))
        inputs = {"photo": self.digest, "sound": sha256_of(path)}
        return Clip(frames, total, path, inputs, self._studio.encoders)

    def _spoken(self, path: Path, seed: int, options: Options | None) -> Iterator[Frame]:
        with AudioReader(path) as reader:
            yield from self.stream(seed=seed, options=options).run(reader)

    def perform(self, motion: Motion, audio: str | Path | None = None) -> Clip:
        """The photo with a given motion, and optionally a recording to hear with it.

        Raises:
            InputError: The recording cannot be read.
        """
        sound = None if audio is None else require_file(audio, "recording")

        def frames() -> Pictures:
            moments = (motion[number] for number in range(len(motion)))
            for image in self._studio.crew.draw(self.renderer, moments):
                yield self._finished(image)

        digest = hashlib.sha256(b"".join(getattr(motion, f.name).tobytes() for f in fields(motion)))
        inputs = {"photo": self.digest, "motion": digest.hexdigest()}
        if sound is not None:
            inputs["sound"] = sha256_of(sound)
        return Clip(frames, len(motion), sound, inputs, self._studio.encoders)

    def inspect(self) -> Image:
        """What was found and how it moves: a sheet of (1152, 1536, 3) uint8 RGB."""
        return inspect.sheet(self.renderer, self.face.confidence)

    def describe(self) -> str:
        """The same in words: one fact a line, warnings last."""
        pose = self.portrait.latents.pose
        turn = [round(float(np.degrees(a))) for a in (pose.yaw, pose.pitch, pose.roll)]
        left, top, right, bottom = (round(v) for v in self.face.box)
        facts = [
            f"face        {left},{top} to {right},{bottom}, {self.face.height:.0f} pixels high",
            f"confidence  {self.face.confidence:.0%}",
            f"head        yaw {turn[0]}, pitch {turn[1]}, roll {turn[2]} degrees",
        ]
        return "\n".join(facts + [f"warning     {w}" for w in self.warnings])

    def _finished(self, image: Image) -> Image:
        if not self.prepared.full_frame:
            return image
        return paste(self.prepared.photo, image, self.portrait.canvas.matrix)


class Studio:
    """The networks and bases, loaded once; makes avatars and motion.

    Attributes:
        crew: draws the frames, on the cores that may be used.
        encoder: finds faces, landmarks and the person matte.
        basis: landmarks to latents and back.
        slide: how skin moves under the landmarks.
        light: how the light on it changes.
        decoder: mends the renderer's frames; loaded at first use.
        generator: motion from sound; loaded at first use.
    """

    def __init__(self, threads: int, *, helpers: bool = False) -> None:
        self.crew = Crew(threads, helpers=helpers)  # begins to load its own beside what follows
        self.encoder = FaceEncoder.load(threads)
        self.basis = FaceBasis.load()
        self.slide = Slide.load()
        self.light = Light.load()

    @property
    def encoders(self) -> int:
        """Threads for the encoder: it takes a fifth of the work, and idle ones are in the way."""
        return max(1, self.crew.threads // 2)

    @cached_property
    def decoder(self) -> Decoder:
        return Decoder.load()

    @cached_property
    def generator(self) -> MotionGenerator:
        return MotionGenerator.load()

    def avatar(
        self,
        photo: str | Path | Image,
        *,
        size: int = 512,
        face: int | None = None,
        full_frame: bool = False,
        digest: str | None = None,
    ) -> Avatar:
        """Prepare a photo.

        Args:
            photo: a picture file, or (H, W, 3) uint8 RGB.
            size: side of the video in pixels, 256 to 1024, a multiple of 8.
            face: which face, 0 being the largest; None takes the largest and warns of others.
            full_frame: keep the whole photo around the moving head.
            digest: SHA-256 of the file that an array was read from.

        Raises:
            InputError: The picture cannot be read, or ``size`` is out of range.
            NoFaceError: There is no usable face in it.
        """
        check_size(size)
        name = "the picture" if isinstance(photo, np.ndarray) else str(photo)
        if isinstance(photo, np.ndarray):
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
                raise InputError(
                    f"a picture of {photo.dtype}, shape {photo.shape}: give (H, W, 3) uint8 RGB"
                )
            image, digest = photo, digest or hashlib.sha256(photo.tobytes()).hexdigest()
        else:
            image, digest = load_image(photo), sha256_of(Path(photo))
        chosen, warnings = self._admit(image, name, face)
        if full_frame:
            image, chosen = _limited(image, chosen, FULL_FRAME_SIDE)
        portrait = self.prepare(image, chosen, size, pinned=full_frame)
        if any(eye.opening < SHUT for eye in portrait.eyes.eyes):
            warnings.append("an eye is shut: when it opens, how it looks is made up")
        return Avatar(self, Prepared(image, chosen, digest, full_frame, warnings, portrait))

    def prepare(self, photo: Image, face: Face, size: int, *, pinned: bool) -> Portrait:
        """Cut a photo into layers, see :func:`sfumato.render.portrait.prepare`."""
        matte = self.encoder.matte(photo, face)
        return prepare(photo, face.landmarks, matte, self.basis, size, pinned=pinned)

    def _admit(self, image: Image, name: str, index: int | None) -> tuple[Face, list[str]]:
        """The face to use and what may look wrong; raises where nothing good can come of it."""
        found = self.encoder.faces(image)
        if not found:
            raise NoFaceError(
                f"{name}: no human-like face found; use a picture that shows one face from the "
                "front, upright, eyes and mouth uncovered"
            )
        faces = [f for f in found if f.height >= MIN_FACE_HEIGHT]
        if not faces:
            raise NoFaceError(
                f"{name}: the face is {found[0].height:.0f} pixels high, at least "
                f"{MIN_FACE_HEIGHT} are needed; use a larger picture"
            )
        if index is not None and not 0 <= index < len(faces):
            raise NoFaceError(
                f"{name}: {len(faces)} face(s) found, choose a face from 1 to {len(faces)}"
            )
        face = faces[index or 0]
        warnings = []
        if index is None and len(faces) > 1:
            warnings.append(f"{len(faces)} faces found, the largest is used; face 2 is the next")
        yaw = abs(np.degrees(self.basis.fit(face.landmarks).pose.yaw))
        if yaw > MAX_YAW:
            raise NoFaceError(
                f"{name}: the face is turned away by {yaw:.0f} degrees, at most {MAX_YAW:.0f} "
                "work; use a picture from the front"
            )
        if yaw > SOFT_YAW:
            warnings.append(f"the face is turned by {yaw:.0f} degrees: its far side may look odd")
        if face.height < 2 * MIN_FACE_HEIGHT:
            warnings.append(f"the face is only {face.height:.0f} pixels high: it will be soft")
        return face, warnings

    def motion(self, audio: str | Path, *, seed: int = 0, options: Options | None = None) -> Motion:
        """The motion that belongs to a recording, for any photo."""
        stream = MotionStream(self.generator, seed, options)
        with AudioReader(Path(audio)) as reader:
            parts = [stream.push(samples) for samples in reader]
        return Motion.concat([*parts, stream.flush()])

    def track(self, video: str | Path, progress: Progress | None = None) -> Motion:
        """The motion of the person in a video, for any photo, see :func:`sfumato.actor.follow`."""
        usual = (self.slide, self.light)
        return follow(video, self.encoder, self.basis, usual, self.crew.threads, progress)


def check_size(size: int) -> None:
    """Raises :class:`InputError` for a side of the video that is not possible."""
    if not SIZES[0] <= size <= SIZES[1] or size % 8:
        raise InputError(f"size {size}: choose a multiple of 8 from {SIZES[0]} to {SIZES[1]}")


def _limited(image: Image, face: Face, side: int) -> tuple[Image, Face]:
    """A photo and a face in it, shrunk to sides of at most ``side``."""
    zoom = side / max(image.shape[:2])
    if zoom >= 1:
        return image, face
    height, width = (max(1, round(v * zoom)) for v in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    scale = np.array([width / image.shape[1], height / image.shape[0], zoom], np.float32)
    landmarks = face.landmarks * scale
    landmarks[:, :2] += (scale[:2] - 1) / 2  # pixels count from their centres
    return small.astype(np.uint8, copy=False), Face(landmarks, face.confidence)


def load(threads: int = 1, *, alone: bool = False, helpers: bool = False) -> Studio:
    """Load the networks that ship with the package.

    Args:
        threads: cores to use: frames are drawn that many at a time, and the networks that look at
            a photo share them. Video is encoded beside it in any case.
        alone: nothing else in this process minds that OpenCV's own threads are switched off and
            Python's take short turns, for the whole process. Frames that are drawn side by side
            get into each other's way otherwise.
        helpers: up to three of the cores, but not all, draw frames in processes of their own, for
            0.2 GB each: recordings a quarter faster on two cores, live frames undisturbed by what
            else this process does. They need a second to begin, and end with the studio or with
            this process.

    Raises:
        InputError: Fewer threads than one.
    """
    if threads < 1:
        raise InputError(f"threads is {threads}: choose 1 or more")
    if alone:
        draw_here()
    return Studio(threads, helpers=helpers)
