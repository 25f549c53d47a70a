"""Photos, recordings and videos: every kind in, one kind out, in sync, complete or absent."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from media_samples import (
    CLICK,
    beep,
    onset,
    write_mute_track,
    write_silence,
    write_sound,
    write_video,
    write_wav,
)
from PIL import EpsImagePlugin, Image

from sfumato.errors import InputError, OutputError
from sfumato.media.arrays import save_arrays
from sfumato.media.audio import AudioReader, SoundDecoder, has_sound
from sfumato.media.encoder import Encoder
from sfumato.media.image import BACKDROP, decode_image, load_image, save_image
from sfumato.media.video import VideoReader, VideoWriter
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, frames_for

pytestmark = pytest.mark.unit

RED, GREEN, BLUE = (220, 30, 20), (20, 160, 40), (30, 40, 200)


def corners() -> np.ndarray:
    """40 x 60: red at the top left, green at the top right, blue below."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:], image[20:] = RED, GREEN, BLUE
    return image


def assert_corners(image: np.ndarray, tolerance: int = 12) -> None:
    assert image.shape == (40, 60, 3) and image.dtype == np.uint8
    for (row, column), colour in {(8, 10): RED, (8, 50): GREEN, (30, 30): BLUE}.items():
        assert np.abs(image[row, column].astype(int) - colour).max() <= tolerance


def read_sound(path: Path) -> np.ndarray:
    with AudioReader(path) as reader:
        return np.concatenate(list(reader))


def read_video(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return list(reader)


# Photos


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_head_up(tmp_path: Path, orientation: int) -> None:
    undo = {
        1: lambda i: i,
        2: np.fliplr,
        3: lambda i: np.rot90(i, 2),
        4: np.flipud,
        5: lambda i: i.transpose(1, 0, 2),
        6: lambda i: np.rot90(i, 1),
        7: lambda i: np.rot90(i, 2).transpose(1, 0, 2),
        8: lambda i: np.rot90(i, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    stored = np.ascontiguousarray(undo(corners()))
    Image.fromarray(stored).save(path, exif=exif, quality=95, subsampling=0)
    assert_corners(load_image(path))


@pytest.mark.parametrize(
    "suffix",
    ["png", "webp", "tiff", "bmp", "gif", "jp2", "ppm", "avif", "tga", "pcx", "sgi", "qoi", "dds"],
)
def test_common_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(corners()).save(path, quality=95)
    assert_corners(load_image(path), 20)


def test_no_photo_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ghostscript(*_: object, **__: object) -> None:
        pytest.fail("Ghostscript would run")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    Image.fromarray(corners()).save(tmp_path / "photo.eps")
    data = (tmp_path / "photo.eps").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(data)
    for name in ("photo.eps", "photo.jpg"):
        with pytest.raises(InputError, match="no picture that can be read"):
            load_image(tmp_path / name)
    with pytest.raises(InputError, match="no picture that can be read"):
        decode_image(data)


def test_icons(tmp_path: Path) -> None:
    icon = Image.new("RGB", (32, 32), RED)
    for suffix in ("ico", "icns"):
        icon.save(tmp_path / f"photo.{suffix}")
        assert tuple(load_image(tmp_path / f"photo.{suffix}")[9, 9]) == RED


def test_what_pillow_lacks_comes_through_ffmpeg(tmp_path: Path) -> None:
    path = tmp_path / "photo.exr"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("exr", rate=1)
        stream.height, stream.width, stream.pix_fmt = 40, 60, "gbrpf32le"
        frame = av.VideoFrame.from_ndarray(corners(), "rgb24").reformat(format="gbrpf32le")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert_corners(load_image(path))


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(corners()).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    hole = image.getpixel((30, 30))
    image.save(tmp_path / "photo.png", transparency=hole)
    loaded = load_image(tmp_path / "photo.png")
    assert tuple(loaded[30, 30]) == BACKDROP and abs(int(loaded[8, 10, 0]) - RED[0]) < 12


def test_alpha_lies_over_a_neutral_wall(tmp_path: Path) -> None:
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[20:], alpha[:20, :30] = 0, 128
    Image.fromarray(np.dstack([corners(), alpha])).save(tmp_path / "photo.png")
    loaded = load_image(tmp_path / "photo.png").astype(int)
    assert tuple(loaded[30, 30]) == BACKDROP
    assert np.abs(loaded[8, 10] - (np.array(RED) + BACKDROP) / 2).max() < 3
    assert tuple(loaded[8, 50]) == GREEN


def test_grey_and_grey_alpha_and_one_bit(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(0, 250, 5, dtype=np.uint8)[None], 20, 0)
    Image.fromarray(ramp).save(tmp_path / "grey.jpg", quality=98)
    Image.fromarray(ramp).convert("LA").save(tmp_path / "grey.png")
    Image.fromarray(ramp).convert("1").save(tmp_path / "bit.png")
    for name in ("grey.jpg", "grey.png"):
        assert np.abs(load_image(tmp_path / name)[..., 1].astype(int) - ramp).max() < 6
    assert set(np.unique(load_image(tmp_path / "bit.png"))) == {0, 255}


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(0, 65000, 1000, dtype=np.uint16)[None], 20, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert np.abs(load_image(tmp_path / "deep.png")[..., 0] - ramp / 257).max() <= 1
    Image.fromarray(ramp).save(tmp_path / "deep.tiff")
    assert np.abs(load_image(tmp_path / "deep.tiff")[..., 2] - ramp / 257).max() <= 1


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = 40, 60, "rgb48be"
        frame = av.VideoFrame.from_ndarray(corners().astype(np.uint16) * 257, "rgb48be")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert_corners(load_image(path))


def test_cmyk(tmp_path: Path) -> None:
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert_corners(load_image(tmp_path / "print.jpg"), 20)
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "print.tiff")
    assert_corners(load_image(tmp_path / "print.tiff"))


def test_embedded_profile_is_used_and_a_broken_one_ignored(tmp_path: Path) -> None:
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(corners()).save(tmp_path / "srgb.png", icc_profile=lab)
    Image.fromarray(corners()).save(tmp_path / "odd.png", icc_profile=b"no profile at all")
    assert_corners(load_image(tmp_path / "srgb.png"))
    assert_corners(load_image(tmp_path / "odd.png"))


def test_first_picture_of_an_animation(tmp_path: Path) -> None:
    first, second = Image.fromarray(corners()), Image.new("RGB", (60, 40))
    for suffix in ("gif", "webp", "png"):
        first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], lossless=True)
        assert_corners(load_image(tmp_path / f"a.{suffix}"), 20)


def bomb() -> bytes:
    """A valid PNG header of 30 000 x 30 000 pixels in a few bytes."""
    small = io.BytesIO()
    Image.new("1", (8, 8)).save(small, "PNG")
    data = bytearray(small.getvalue())
    import struct
    import zlib

    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_bad_photos(tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.effect_noise((200, 200), 80).save(good, "PNG")
    bad = {
        "bomb.png": (bomb(), "megapixels"),
        "cut.png": (good.getvalue()[:900], "broken"),
        "text.jpg": (b"this is no picture", "no picture"),
        "noise.png": (os.urandom(4000), "no picture"),
        "empty.png": (b"", "0 bytes"),
    }
    for name, (content, word) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=word):
            load_image(tmp_path / name)
    with pytest.raises(InputError, match="folder"):
        load_image(tmp_path)
    with pytest.raises(InputError, match="No photo"):
        load_image(tmp_path / "none.png")
    with pytest.raises(InputError):
        load_image("bad\0name.png")


def test_video_is_no_photo(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [i / 25 for i in range(20)], [corners()] * 20)
    with pytest.raises(InputError, match="video"):
        load_image(path)


def test_save_image(tmp_path: Path) -> None:
    path = save_image(tmp_path / "out.png", corners())
    assert np.array_equal(load_image(path), corners())
    with pytest.raises(OutputError, match="exists"):
        save_image(path, corners())
    with pytest.raises(OutputError, match="ends in"):
        save_image(tmp_path / "out.mp4", corners())
    save_image(path, corners()[::-1].copy(), force=True)
    assert np.array_equal(load_image(path), corners()[::-1])


# Recordings


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 192_000])
def test_any_rate_and_channels(tmp_path: Path, rate: int, channels: int) -> None:
    sound = read_sound(write_wav(tmp_path / "a.wav", beep(rate, channels, 1.5), rate))
    assert sound.dtype == np.float32 and abs(len(sound) - 1.5 * SAMPLE_RATE) <= 1
    assert abs(onset(sound, SAMPLE_RATE) - CLICK) < 0.002
    assert 0.45 < np.abs(sound).max() < 0.55  # equal channels mix to their own level


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.ogg", "libopus"), ("a.flac", "flac")],
)
def test_compressed_sound_starts_in_time(tmp_path: Path, name: str, codec: str) -> None:
    sound = read_sound(write_sound(tmp_path / name, beep(48_000, 2, 2.0), 48_000, codec))
    assert abs(onset(sound, SAMPLE_RATE) - CLICK) < 0.01
    assert abs(len(sound) / SAMPLE_RATE - 2.0) < 0.08


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac")])
def test_sound_that_starts_late_stays_late(tmp_path: Path, name: str, codec: str) -> None:
    path = write_sound(tmp_path / name, beep(48_000, 1, 1.5), 48_000, codec, delay=0.5)
    sound = read_sound(path)
    assert abs(onset(sound, SAMPLE_RATE) - CLICK - 0.5) < 0.01
    with AudioReader(path) as reader:
        assert reader.duration == pytest.approx(2.0, abs=0.1)


def test_colon_in_a_name(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "take:2.wav", beep(16_000, 1, 1.5), 16_000)
    assert len(read_sound(path)) == 24_000


def test_damaged_middle_keeps_time(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp3", beep(44_100, 1, 6.0, at=5.0), 44_100, "libmp3lame")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 300] = bytes(300)
    path.write_bytes(data)
    assert abs(onset(read_sound(path), SAMPLE_RATE) - 5.0) < 0.08


def test_bad_recordings(tmp_path: Path) -> None:
    write_wav(tmp_path / "none.wav", np.zeros((0, 1)), 16_000)
    write_video(tmp_path / "mute.mp4", [0.0, 0.04], [corners()] * 2)
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    words = {"none": "0 samples", "mute": "no sound track", "text": "broken", "empty": "0 bytes"}
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match=words[path.stem]):
            AudioReader(path)
    assert not has_sound(tmp_path / "mute.mp4")


def test_a_track_without_a_sample_is_no_sound(tmp_path: Path) -> None:
    path = write_mute_track(tmp_path / "hollow.mkv")
    with av.open(str(path)) as container:
        assert container.streams.audio
    assert not has_sound(path)
    assert has_sound(write_wav(tmp_path / "a.wav", np.full((1, 1), 0.5), 16_000))
    with pytest.raises(InputError, match="No recording"):
        has_sound(tmp_path / "none.mp4")


def test_nan_in_a_float_file_does_no_harm(tmp_path: Path) -> None:
    sound = beep(16_000, 1, 1.5)
    sound[100:200], sound[300:400] = np.nan, 50.0
    data = sound.astype("<f4").tobytes()
    head = b"RIFF" + (36 + len(data)).to_bytes(4, "little") + b"WAVEfmt "
    form = (16, 4), (3, 2), (1, 2), (16_000, 4), (64_000, 4), (4, 2), (32, 2)
    head += b"".join(value.to_bytes(size, "little") for value, size in form)
    path = tmp_path / "a.wav"
    path.write_bytes(head + b"data" + len(data).to_bytes(4, "little") + data)
    assert np.abs(read_sound(path)).max() <= 1.0


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_long_recordings_take_no_memory(tmp_path: Path) -> None:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    peaks = []
    for seconds in (10, 400):
        path = write_silence(tmp_path / "a.wav", seconds)
        with AudioReader(path) as reader:
            assert sum(len(samples) for samples in reader) == seconds * SAMPLE_RATE
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    assert peaks[1] - peaks[0] < 8e6  # the samples alone would take 26 MB


# Videos


def flashes(count: int, *at: int, size: tuple[int, int] = (64, 64)) -> list[np.ndarray]:
    """Dark pictures, white where named."""
    shape = (size[1], size[0], 3)
    return [np.full(shape, 240 if i in at else 20, np.uint8) for i in range(count)]


def write_out(path: Path, pictures: list[np.ndarray], audio: Path | None = None) -> Path:
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, (width, height), audio) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (192_000, 8)])
def test_picture_and_sound_stay_together(no_leftovers: Path, rate: int, channels: int) -> None:
    seconds = 2.33
    audio = write_wav(no_leftovers / "a.wav", beep(rate, channels, seconds), rate)
    count = frames_for(round(seconds * SAMPLE_RATE))
    path = write_out(no_leftovers / "out.mp4", flashes(count, FPS), audio)
    pictures = read_video(path)
    assert len(pictures) == count
    assert [i for i, p in enumerate(pictures) if p.mean() > 120] == [FPS]  # 1 s, with the beep
    assert abs(onset(read_sound(path), SAMPLE_RATE) - CLICK) < 1 / FPS / 4
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        assert float(track.duration * track.time_base) == pytest.approx(seconds, abs=1e-3)
        assert track.rate == min(rate, 96_000) and track.codec_context.channels == channels
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_recording_is_never_cut(no_leftovers: Path) -> None:
    audio = write_wav(no_leftovers / "a.wav", beep(16_000, 1, 1.5), 16_000)
    path = write_out(no_leftovers / "out.mp4", flashes(5, 4), audio)
    pictures = read_video(path)
    assert len(pictures) == frames_for(24_000)
    assert all(p.mean() > 200 for p in pictures[4:])  # the last one stays


@pytest.mark.parametrize("count", [1, 2, 63, 250])
def test_sound_that_comes_with_the_pictures_stays_with_them(no_leftovers: Path, count: int) -> None:
    marks = set(range(count - 1, -1, -60))
    pictures = flashes(count, *marks)
    click = beep(SAMPLE_RATE, 1, 1 / FPS, at=0)[:, 0]
    with VideoWriter(no_leftovers / "out.mp4", (64, 64), spoken=True) as writer:
        for index, picture in enumerate(pictures):
            writer.write(picture, click if index in marks else np.zeros_like(click))
    shown = read_video(writer.path)
    assert [i for i, p in enumerate(shown) if p.mean() > 120] == sorted(marks)
    sound = read_sound(writer.path)
    assert 0 <= len(sound) - count * SAMPLES_PER_FRAME < 2048  # AAC pads
    loud = np.flatnonzero(np.abs(sound) > 0.2)
    starts = loud[np.diff(loud, prepend=-FPS * SAMPLES_PER_FRAME) > SAMPLES_PER_FRAME]
    assert len(starts) == len(marks)
    assert np.abs(starts - SAMPLES_PER_FRAME * np.array(sorted(marks))).max() < 80  # 5 ms


def test_a_spoken_video_wants_the_sound_of_every_picture(no_leftovers: Path) -> None:
    writer = VideoWriter(no_leftovers / "out.mp4", (64, 64), spoken=True)
    with pytest.raises(ValueError, match="640 samples"), writer:
        writer.write(flashes(1)[0])
    assert not list(no_leftovers.iterdir())


def test_files_that_name_other_files_are_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "secret.wav", beep(16_000, 1, 1.5), 16_000)
    (tmp_path / "list.wav").write_text("ffconcat version 1.0\nfile secret.wav\n")
    (tmp_path / "list.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.wav\n#EXT-X-ENDLIST\n"
    )
    for name in ("list.wav", "list.mp4"):
        with pytest.raises(InputError, match="no sound that can be read"):
            AudioReader(tmp_path / name)
    with pytest.raises(InputError, match="no video that can be read"):
        VideoReader(tmp_path / "list.mp4")


def test_photos_in_memory(tmp_path: Path) -> None:
    for suffix in ("png", "jp2"):
        Image.fromarray(corners()).save(tmp_path / f"photo.{suffix}", quality=95)
        assert_corners(decode_image((tmp_path / f"photo.{suffix}").read_bytes()), 20)
    with pytest.raises(InputError, match="me.jpg is no picture"):
        decode_image(b"no picture at all", "me.jpg")
    with pytest.raises(InputError, match="the photo is no picture"):
        decode_image(b"")


def test_colours_survive(no_leftovers: Path) -> None:
    picture = np.repeat(np.repeat(corners(), 2, 0), 2, 1)
    path = write_out(no_leftovers / "out.mp4", [picture] * 3)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_range, context.colorspace, context.color_primaries) == (1, 1, 1)
    assert_corners(read_video(path)[1][::2, ::2], 4)


def test_odd_sizes_lose_a_row(no_leftovers: Path) -> None:
    path = write_out(no_leftovers / "out.mp4", flashes(2, size=(65, 47)))
    assert read_video(path)[0].shape == (46, 64, 3)


def test_any_frame_rate_comes_on_the_grid(tmp_path: Path) -> None:
    for rate in (10, 30, 60):
        times = [i / rate for i in range(rate * 2)]
        pictures = [flashes(1, 0)[0] if 1.0 <= t < 1.2 else flashes(1)[0] for t in times]
        path = write_video(tmp_path / f"{rate}.mkv", times, pictures, rate=rate)
        bright = [i for i, p in enumerate(read_video(path)) if p.mean() > 120]
        assert bright == list(range(25, 30))


def test_varying_frame_rate_and_late_start(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.52, 0.54, 1.2, 1.24]
    path = write_video(tmp_path / "v.mkv", times, flashes(7, 2, 5))
    bright = [i for i, p in enumerate(read_video(path)) if p.mean() > 120]
    assert bright == [12, 30]  # 0.50 s lies between two instants, 1.2 s on one


def test_rotation_mark_is_followed(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", [0.0, 0.04], [np.rot90(corners()).copy()] * 2)
    data = plain.read_bytes()
    unit = (0x10000).to_bytes(4, "big")
    minus, zero = (2**32 - 0x10000).to_bytes(4, "big"), bytes(4)
    straight = unit + zero * 3 + unit + zero * 3 + (0x40000000).to_bytes(4, "big")
    turned = zero + unit + zero + minus + zero * 4 + (0x40000000).to_bytes(4, "big")
    place = data.rindex(straight)  # the track's matrix comes after the movie's
    path = tmp_path / "turned.mp4"
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])
    assert_corners(read_video(path)[0], 25)


def test_bad_videos(tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.wav", beep(16_000, 1, 1.5), 16_000)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match="no pictures"):
        VideoReader(tmp_path / "sound.wav")
    with pytest.raises(InputError, match="broken"):
        VideoReader(tmp_path / "text.mp4")


# Complete or absent


def test_existing_output_is_refused_before_work(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        VideoWriter(tmp_path / "out.mp4", (64, 64))
    with pytest.raises(OutputError, match="No folder"):
        VideoWriter(tmp_path / "no" / "out.mp4", (64, 64))
    with pytest.raises(OutputError, match="ends in"):
        VideoWriter(tmp_path / "out.xyz", (64, 64))
    with VideoWriter(tmp_path / "out.mp4", (64, 64), force=True) as writer:
        writer.write(flashes(1)[0])
    assert (tmp_path / "out.mp4").read_bytes() != b"precious"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_nothing_stays_after_an_error(
    no_leftovers: Path, error: type[BaseException], count: int
) -> None:
    target = no_leftovers / "out.mp4"
    target.write_bytes(b"the older one")
    with pytest.raises(error), VideoWriter(target, (64, 64), force=True) as writer:
        for picture in flashes(count):
            writer.write(picture)
        raise error
    assert target.read_bytes() == b"the older one"


def test_an_error_while_the_encoder_waits_does_not_hang(no_leftovers: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    done = threading.Event()

    def stopped() -> None:
        with (
            pytest.raises(KeyboardInterrupt),
            VideoWriter(no_leftovers / "out.mp4", (256, 256)) as writer,
        ):
            for shift in range(60):  # so much that some of it lies on the disk
                writer.write(np.roll(noise, shift, 0))
            while not writer._pictures.empty():
                time.sleep(0.005)
            time.sleep(0.1)
            raise KeyboardInterrupt
        done.set()

    threading.Thread(target=stopped, daemon=True).start()
    assert done.wait(20)
    assert not list(no_leftovers.iterdir())


def test_an_aborted_save_encodes_nothing_more(
    no_leftovers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = write_silence(no_leftovers / "a.wav", 60)
    shown, show = [], Encoder._show
    monkeypatch.setattr(Encoder, "_show", lambda *given: (shown.append(1), show(*given)))
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(no_leftovers / "out.mp4", (64, 64), audio) as writer,
    ):
        for picture in flashes(2):
            writer.write(picture)
        while len(shown) < 2:
            time.sleep(0.005)
        raise KeyboardInterrupt
    assert len(shown) == 2
    assert [path.name for path in no_leftovers.iterdir()] == ["a.wav"]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_at_the_end_closes_nothing_that_is_read(
    no_leftovers: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    audio = write_silence(no_leftovers / "a.wav", 60)
    writer = VideoWriter(no_leftovers / "out.mp4", (64, 64), audio)
    shown, show = [], Encoder._show
    late, go, closed = threading.Event(), threading.Event(), threading.Event()
    closers, close = [], SoundDecoder.__exit__

    def slow(*given: object) -> None:
        shown.append(1)
        if len(shown) > 1:  # the sound outlasts the pictures
            late.set()
            go.wait(10)
        show(*given)

    def noted(*given: object) -> None:
        closers.append(threading.current_thread())
        close(*given)
        closed.set()

    def interrupt() -> None:
        main = threading.main_thread().ident
        assert main is not None and late.wait(10)
        signal.pthread_kill(main, signal.SIGINT)
        assert writer._stop.wait(10)
        if times > 1:
            time.sleep(0.05)
            signal.pthread_kill(main, signal.SIGINT)
        else:
            go.set()

    monkeypatch.setattr(Encoder, "_show", slow)
    monkeypatch.setattr(SoundDecoder, "__exit__", noted)
    # Where the tests run in the background of a script, Ctrl-C is ignored from birth.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), writer:
            writer.write(flashes(1)[0])
            threading.Thread(target=interrupt).start()
        assert closed.is_set() == (times == 1)  # the impatient do not wait
    finally:
        signal.signal(signal.SIGINT, before)
        go.set()
    assert closed.wait(10) and closers[0] is not threading.main_thread() and len(closers) == 1
    assert len(shown) == 2
    assert [path.name for path in no_leftovers.iterdir()] == ["a.wav"]


def test_failed_signing_leaves_nothing(no_leftovers: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.stat().st_size > 0
        raise OutputError("no")

    with (
        pytest.raises(OutputError, match="no"),
        VideoWriter(no_leftovers / "out.mp4", (64, 64), finish=refuse) as writer,
    ):
        writer.write(flashes(1)[0])
    assert not list(no_leftovers.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX")
def test_full_disk(no_leftovers: Path) -> None:
    import resource

    pictures = [
        np.random.default_rng(i).integers(0, 255, (256, 256, 3), np.uint8) for i in range(8)
    ]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))  # writing fails as when full
    try:
        with (
            pytest.raises(OutputError, match="space"),
            VideoWriter(no_leftovers / "out.mp4", (256, 256)) as writer,
        ):
            for picture in pictures * 10:
                writer.write(picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(no_leftovers.iterdir())


def test_disk_that_fills_at_the_very_end(
    no_leftovers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="no space left"):
        save_image(no_leftovers / "out.png", corners())
    assert not list(no_leftovers.iterdir())


def test_broken_recording_leaves_nothing(no_leftovers: Path) -> None:
    with (
        pytest.raises(InputError),
        VideoWriter(no_leftovers / "out.mp4", (64, 64), no_leftovers / "none.wav"),
    ):
        pass
    assert not list(no_leftovers.iterdir())


def test_arrays_are_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "cache" / "frames.npz"
    save_arrays(target, {"ramp": np.arange(5)})

    def interrupted(path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    for place in (target, target.with_name("other.npz")):
        with pytest.raises(KeyboardInterrupt):
            save_arrays(place, {"ramp": np.zeros(5)})
    assert [path.name for path in target.parent.iterdir()] == ["frames.npz"]
    with np.load(target) as stored:
        np.testing.assert_array_equal(stored["ramp"], np.arange(5))
