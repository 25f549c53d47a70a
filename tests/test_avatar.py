"""From files to files through the library, on our own portrait and speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

import sfumato
from sfumato import provenance, weights
from sfumato.avatar import Avatar, Studio
from sfumato.errors import InputError, NoFaceError, OutputError
from sfumato.media.audio import AudioReader
from sfumato.media.image import load_image
from sfumato.media.video import VideoReader
from sfumato.motionfile import Motion, MotionFrame
from sfumato.timebase import FPS

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1.3 seconds of the built-in speech, in stereo at 44.1 kHz."""
    with weights.find("demo/speech.ogg").open("rb") as handle, AudioReader(handle.name) as reader:
        samples = np.concatenate(list(reader))[: int(1.3 * 16000)]
    path = tmp_path_factory.mktemp("sound") / "second.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        block = (samples * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_animate_saves_a_marked_video_of_the_right_length(
    avatar: Avatar, second: Path, tmp_path: Path
) -> None:
    seen: list[int] = []
    clip = avatar.animate(second)
    out = clip.save(tmp_path / "out.mp4", progress=lambda done, total: seen.append(done))
    with VideoReader(out) as reader:
        frames = list(reader)
    assert len(frames) == seen[-1] == int(np.ceil(1.3 * FPS))
    assert frames[0].shape == (256, 256, 3)
    with AudioReader(out) as reader:
        assert sum(map(len, reader)) == pytest.approx(1.3 * 16000, abs=1024)  # AAC pads
    report = provenance.verify(out)
    assert report.marked
    assert set(report.inputs) == {"photo", "sound"}


def test_the_same_input_and_seed_give_the_same_frames(
    studio: Studio, avatar: Avatar, photo: Path, second: Path
) -> None:
    again = studio.avatar(photo, size=256)
    one, two, other = (
        np.array(list(a.animate(second, seed=s))) for a, s in ((avatar, 5), (again, 5), (avatar, 6))
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_motion_can_be_kept_and_put_on_any_photo(
    studio: Studio, avatar: Avatar, second: Path, tmp_path: Path
) -> None:
    motion = studio.motion(second)
    motion.save(tmp_path / "talk.motion")
    kept = Motion.load(tmp_path / "talk.motion")
    direct = list(avatar.animate(second))
    assert all(np.array_equal(a, b) for a, b in zip(avatar.perform(kept), direct, strict=True))


def test_tracking_a_rendered_video_finds_its_motion_again(
    studio: Studio, photo: Path, tmp_path: Path
) -> None:
    count = 30
    motion = Motion.zeros(count)
    motion.pose[:, 0] = np.radians(8) * np.sin(np.arange(count) / 5)
    motion.expression[:, 2] = 1.5 * (1 - np.cos(np.arange(count) / 3))
    avatar = studio.avatar(photo, size=512)
    out = avatar.perform(motion).save(tmp_path / "known.mp4")
    seen = studio.track(out)
    assert len(seen) == count
    assert np.corrcoef(seen.pose[:, 0], motion.pose[:, 0])[0, 1] > 0.95
    assert np.corrcoef(seen.expression[:, 2], motion.expression[:, 2])[0, 1] > 0.8


def test_skin_and_light_of_a_video_are_told_around_what_is_usual(
    studio: Studio, photo: Path, tmp_path: Path
) -> None:
    count = 24
    motion = Motion.zeros(count)
    motion.skin[:, 0] = 1 + 1.5 * np.sin(np.arange(count) / 4)
    motion.light[:, 0] = 1 + 1.5 * np.cos(np.arange(count) / 4)
    motion.expression[:, 2] = 0.5
    out = studio.avatar(photo, size=512).perform(motion).save(tmp_path / "skin.mp4")
    steps: list[tuple[int, int | None]] = []
    seen = studio.track(out, progress=lambda *at: steps.append(at))
    assert np.corrcoef(seen.skin[:, 0], motion.skin[:, 0])[0, 1] > 0.9
    assert np.corrcoef(seen.light[:, 0], motion.light[:, 0])[0, 1] > 0.9
    for numbers in (seen.skin, seen.light):
        assert np.abs(np.median(numbers, axis=0)).max() < 1e-5
    assert [done for done, _ in steps] == list(range(1, 2 * count + 1))
    assert steps[-1] == (2 * count, 2 * count)


def test_shut_eyes_are_told_to_be_made_up(studio: Studio, photo: Path) -> None:
    lady = studio.avatar(photo)
    shape = lady.portrait.latents.expression.copy()
    shape[:2] = studio.basis.blink_shut
    asleep = lady.renderer.render(replace(MotionFrame.neutral(), expression=shape)).image
    warnings = studio.avatar(np.ascontiguousarray(asleep)).warnings
    assert any("made up" in line for line in warnings)
    assert not any("made up" in line for line in lady.warnings)


def test_full_frame_keeps_the_photo_around_the_head(
    studio: Studio, photo: Path, second: Path
) -> None:
    image = load_image(photo)
    frame = next(iter(studio.avatar(photo, full_frame=True).animate(second)))
    assert frame.shape == image.shape
    assert np.array_equal(frame[:8], image[:8])


def test_full_frame_of_a_large_photo_keeps_a_small_face(
    studio: Studio, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shrunk for the video is not what the face is looked for in."""
    plain = studio.avatar(photo, size=256, full_frame=True)
    side = max(plain.prepared.photo.shape)
    small = 0.8 * 60 / plain.face.height  # too small a face in the shrunk photo
    monkeypatch.setattr("sfumato.avatar.FULL_FRAME_SIDE", round(small * side))
    avatar = studio.avatar(photo, size=256, full_frame=True)
    assert avatar.face.height == pytest.approx(small * plain.face.height, rel=0.02)
    assert max(avatar.prepared.photo.shape) == round(small * side)


def test_a_recording_is_not_replaced_by_the_video_made_of_it(
    avatar: Avatar, second: Path, tmp_path: Path
) -> None:
    spoken = avatar.animate(second).save(tmp_path / "in.mp4")
    before = spoken.read_bytes()
    with pytest.raises(OutputError, match="one of the inputs"):
        avatar.animate(spoken).save(spoken, force=True)
    assert spoken.read_bytes() == before


def test_arguments_that_are_no_use_are_told(studio: Studio, avatar: Avatar) -> None:
    with pytest.raises(InputError, match="No recording at nope.wav"):
        avatar.perform(Motion.zeros(2), "nope.wav")
    with pytest.raises(InputError, match="uint8 RGB"):
        studio.avatar(np.zeros((300, 300), np.uint8))
    with pytest.raises(InputError, match="uint8 RGB"):
        studio.avatar(np.zeros((300, 300, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threads is 0"):
        sfumato.load(0)


def test_a_failed_save_leaves_nothing(avatar: Avatar, tmp_path: Path) -> None:
    def broken(done: int, total: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        avatar.perform(Motion.zeros(20)).save(tmp_path / "out.mp4", progress=broken)
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_kept_without_force(avatar: Avatar, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        avatar.perform(Motion.zeros(2)).save(target)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("size", [100, 2048, 513])
def test_odd_sizes_are_refused(studio: Studio, photo: Path, size: int) -> None:
    with pytest.raises(InputError, match="multiple of 8"):
        studio.avatar(photo, size=size)


@pytest.mark.parametrize("shape", [(1, 5000), (9000, 2)])
def test_a_strip_is_no_portrait(studio: Studio, shape: tuple[int, int]) -> None:
    for full_frame in (False, True):
        with pytest.raises(NoFaceError, match="no human-like face"):
            studio.avatar(np.zeros((*shape, 3), np.uint8), full_frame=full_frame)


def test_seeds_begin_at_zero(studio: Studio, avatar: Avatar, second: Path) -> None:
    for draw in (avatar.animate, studio.motion):
        with pytest.raises(InputError, match="seed is -1"):
            draw(second, seed=-1)
    with pytest.raises(InputError, match="seed is -1"):
        avatar.stream(seed=-1)


def test_inspection_sheet_and_words(avatar: Avatar) -> None:
    assert avatar.inspect().shape == (1152, 1536, 3)
    assert "confidence" in avatar.describe()
