"""The measures of motion: good scores well, out of step scores badly, and nobody is flattered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_video
from typer.testing import CliRunner

from sfumato import cli
from sfumato.avatar import Avatar
from sfumato.errors import InputError
from sfumato.eval import motion as evaluation
from sfumato.eval import (
    motion_frechet,
    motion_life,
    motion_lips,
    motion_long,
    motion_phones,
    motion_sheets,
)
from sfumato.eval.motion_clips import held_out_speech, lip_group
from sfumato.eval.motion_takes import Scene, Take, later, mouth_of
from sfumato.eval.report import flat, motion_report, whole_report
from sfumato.geometry import topology
from sfumato.latent import FaceBasis, Motion, MotionFrame
from sfumato.timebase import FPS, SAMPLE_RATE

pytestmark = pytest.mark.unit


def syllables(count: int = 150, seed: int = 0) -> np.ndarray:
    """An opening of lips (T,): closed at times, wide at others, never the same twice."""
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.standard_normal(count + 8), np.hanning(9), "valid")
    return np.clip(0.05 * slow, 0, 0.25)


def moving(count: int = 150, seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    pose = np.cumsum(0.004 * rng.standard_normal((count, 6)), axis=0)
    motion = Motion.zeros(count)
    expression = motion.expression.copy()
    expression[:, 2] = 20 * syllables(count, seed)
    return replace(motion, pose=pose.astype(np.float32), expression=expression)


def test_lips_in_step_beat_lips_out_of_step() -> None:
    real = syllables()
    width = syllables(seed=1)
    rng = np.random.default_rng(2)
    made = np.clip(real + 0.01 * rng.standard_normal(150), 0, None)
    good = motion_lips.score_lips((made, width), (real, width), same_face=True)
    shifted = (np.roll(made, 12), np.roll(width, 12))
    bad = motion_lips.score_lips(shifted, (real, width), same_face=True)
    assert good.opening_r > 0.9 > 0.3 > bad.opening_r
    assert good.width_r == pytest.approx(1.0) and bad.width_r < 0.4
    assert good.closure == 1.0 and good.false_closure < 0.1 < bad.false_closure
    assert good.amplitude == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_lag_is_found(late: int) -> None:
    real = syllables()
    assert motion_lips.best_lag(np.roll(real, late), real) == pytest.approx(late, abs=0.2)


def test_lips_that_never_close_are_told() -> None:
    real = syllables()
    ajar = real + 0.1
    assert motion_lips.score_lips((ajar, ajar), (real, real), same_face=True).closure == 0.0
    assert motion_lips.score_lips((ajar, ajar), (real, real)).closure == 1.0


def test_what_is_seen_between_open_lips_is_compared() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((60, 3))
    real[30:] = 0.0  # closed
    made = 0.5 * real + 0.2
    made[30:] = rng.standard_normal((30, 3))
    assert motion_lips.interior_r(made, real) == pytest.approx(1.0)
    assert abs(motion_lips.interior_r(np.roll(made, 7, axis=0), real)) < 0.5
    assert np.isnan(motion_lips.interior_r(made, 0 * real))


def test_groups_are_summed_up_by_frames() -> None:
    real = syllables()
    one = motion_lips.score_lips((real, real), (real, real))
    two = replace(one, opening_r=0.0, frames=50)
    out = motion_lips.grouped({"a": one, "b": two}, {"a": "wild", "b": "wild"})
    assert out["wild_opening_r"] == pytest.approx(0.75)
    assert out["wild_clips"] == 2


def test_blinks_are_counted_and_measured() -> None:
    opening = np.full(500, 0.3)
    for start in (50, 200, 400):
        opening[start : start + 5] = [0.2, 0.08, 0.0, 0.08, 0.2]
    opening[300:340] = 0.1  # looking down is no blink
    found = motion_life.blinking([opening])
    assert found["blinks"] == 3 and found["blink_rate"] == pytest.approx(9.0)
    assert found["blink_completeness"] == pytest.approx(1.0)
    assert found["blink_duration"] == pytest.approx(120.0)


def test_a_still_head_does_not_turn() -> None:
    still = motion_life.turning(Motion.zeros(100))
    assert still["delta_p"] == 0.0 == still["yaw_spread"]
    assert motion_life.turning(moving())["delta_p"] > 0.1


def test_nods_on_the_beat_are_heard() -> None:
    count, rng = 200, np.random.default_rng(0)
    beats = np.zeros(count)
    beats[rng.choice(np.arange(10, 190), 12, replace=False)] = 1.0
    loud = np.convolve(beats, np.exp(-np.arange(8) / 3), "full")[:count]
    sound = np.repeat(loud, 4)[:, None] * np.ones((1, 64))
    pose = np.zeros((count, 6), np.float32)
    pose[:, 1] = np.radians(3) * np.convolve(beats, np.hanning(9), "same")
    nodding = replace(Motion.zeros(count), pose=pose)
    quiet = np.roll(sound, 4 * 40, axis=0)
    assert motion_life.nod_beat(nodding, sound) > motion_life.nod_beat(nodding, quiet) + 0.2


def test_diversity_of_seeds() -> None:
    one, two = moving(seed=1), moving(seed=2)
    same = motion_life.diversity([one, one])
    other = motion_life.diversity([one, two])
    assert same["diversity_pose"] == 0.0 == same["diversity_face"]
    assert other["diversity_pose"] > 0.3 and other["diversity_face"] > 0.5


def test_drift_is_seen_and_its_chance_told() -> None:
    basis = FaceBasis.load()

    def steady(samples: np.ndarray, seed: int) -> Motion:
        return Motion.concat(
            [moving(motion_long.MINUTE, seed=5)] * (len(samples) // SAMPLE_RATE // 60)
        )

    def sinking(samples: np.ndarray, seed: int) -> Motion:
        motion = steady(samples, seed)
        share = np.linspace(1, 0.7, len(motion), dtype=np.float32)[:, None]
        return replace(motion, expression=motion.expression * share)

    minute = motion_long.minute_of([np.ones(SAMPLE_RATE, np.float32) * 0.1])
    assert len(minute) == 60 * SAMPLE_RATE
    calm = motion_long.drift(steady, minute, basis, 4, 2)
    assert calm["drift_max"] < 1e-6 and calm["drift_sure"] < 1e-6
    moved = motion_long.drift(sinking, minute, basis, 4, 2)
    assert moved["drift_lips_max"] > 0.2
    assert moved["drift"]["opening"][0] > 0.2


def test_what_differs_from_minute_to_minute_is_no_drift() -> None:
    def restless(samples: np.ndarray, seed: int) -> Motion:
        count = len(samples) // SAMPLE_RATE // 60
        rng = np.random.default_rng(seed)
        minutes = [moving(motion_long.MINUTE, seed=seed) for _ in range(count)]
        return Motion.concat(
            [replace(m, pose=m.pose * np.float32(rng.uniform(0.5, 1.5))) for m in minutes]
        )

    minute = motion_long.minute_of([np.ones(SAMPLE_RATE, np.float32) * 0.1])
    found = motion_long.drift(restless, minute, FaceBasis.load(), 6, 4)
    change, chance = found["drift"]["yaw_spread"]
    assert chance > 0.08 and change < 2 * chance


def test_frechet_knows_a_stranger() -> None:
    rng = np.random.default_rng(0)
    people = [f"p{i % 8}" for i in range(24)]

    def clips(offset: float) -> list:
        return [
            (rng.standard_normal((12, 20)) + offset, rng.standard_normal((12, 10)) + offset)
            for _ in people
        ]

    real = clips(0.0)
    near = motion_frechet.distances(real, clips(0.0), people)
    far = motion_frechet.distances(real, clips(0.8), people)
    assert near["frechet"] < 2 * near["frechet_real"] < far["frechet"]
    assert motion_frechet.distances(real[:2], real[:2], people[:2]) == {}


def test_phones_are_read_and_held_against_lips() -> None:
    phones = motion_phones.phones_of("pau:0.200 b:0.300 aa:0.600 m:0.700")
    assert [p.name for p in phones] == ["pau", "b", "aa", "m"]
    assert phones[1].start == 0.2 and phones[1].end == 0.3
    opening = np.full(25, 0.1)
    opening[6] = 0.0
    assert motion_phones.closes(opening, phones[1], 0)
    assert not motion_phones.closes(opening, phones[3], 0)


def test_motion_moves_by_parts_of_a_frame() -> None:
    ramp = replace(Motion.zeros(20), expression=np.tile(np.arange(20.0)[:, None], (1, 40)))
    assert later(ramp, 0.5).expression[3, 0] == pytest.approx(3.5)
    assert later(ramp, -2.0).expression[0, 0] == 0.0


def test_groups_and_turns(tmp_path: Path) -> None:
    rows = ["clip\tsplit\tkind\tsynced\tperson\tsource\tcontent\tseconds"]
    rows += [f"a/{i}.mp4\ttest\treal\t1\tanna\tpcavs\tspeech\t{2 + i}" for i in range(6)]
    rows += ["g/1.mp4\ttrain\treal\t1\tgrid_s30\tgrid_drpato\tspeech\t3"]
    rows += ["g/2.mp4\ttrain\treal\t1\tgrid_s1\tgrid_ansh\tspeech\t3"]
    rows += ["g/3.mp4\ttrain\treal\t1\trobust:GRID_s4\trobustl2s\tspeech\t3"]
    rows += ["g/4.mp4\ttrain\treal\t1\tlipify_M1\tlipify\tspeech\t3"]
    rows += ["g/5.mp4\ttrain\treal\t1\tgrid_s4\tlipify\tother\t3"]
    rows += ["s/1.mp4\ttest\tgenerated\t1\tx\tsonic\tsong\t9"]
    rows += ["s/2.mp4\ttest\tgenerated\t1\ty\tsonic\tspeech\t9"]
    rows += ["t/1.mp4\ttrain\treal\t1\tt\tpcavs\tspeech\t9"]
    rows += ["t/2.mp4\ttest\treal\t1\tother:T\tpcavs\tspeech\t9"]
    (tmp_path / "index.tsv").write_text("\n".join(rows) + "\n", encoding="utf8")
    chosen = [(group, clip.name) for group, clip in held_out_speech(tmp_path)]
    anna = [("wild", f"a/{i}") for i in (5, 4, 3, 2)]
    assert {c for c in chosen if c[0] == "wild"} == {*anna, ("wild", "g/4")}
    assert [c for c in chosen if c in anna] == anna
    others = {("grid", "g/1"), ("grid", "g/3"), ("grid_seen", "g/2"), ("song", "s/1")}
    others |= {("wild_seen", "t/2")}
    assert set(chosen) - {c for c in chosen if c[0] == "wild"} == others
    assert {group for group, _ in held_out_speech(tmp_path, 5)} == {g for g, _ in chosen}
    assert lip_group(held_out_speech(tmp_path)[0][1]) == "wild"


def test_the_lag_of_the_recordings_is_taken_out_of_the_real_lips() -> None:
    tracks = np.zeros((6, 478, 3))
    tracks[:, topology.OUTER_CORNERS[1], 0] = 10.0
    tracks[:, 14, 1] = np.arange(6.0)
    real = Take(tracks, Motion.zeros(6), [])
    scene = Scene("a", "wild", "a", 1.6, np.zeros(0), np.zeros((0, 0)), real, {}, {})
    assert scene.late == 2
    assert scene.lips[0] == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.5, 0.5])


@pytest.fixture(scope="module")
def clips(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one clip: the built-in portrait moves its lips, and there is no sound."""
    folder = tmp_path_factory.mktemp("speech")
    own = replace(MotionFrame.neutral(), expression=avatar.portrait.latents.expression)
    pictures = []
    for number in range(4):
        shape = own.expression.copy()
        shape[2] += number
        pictures.append(avatar.renderer.render(replace(own, expression=shape)).image)
    write_video(folder / "mute.mp4", [i / 25 for i in range(4)], pictures)
    return folder


def test_mouths_are_cut_out_upright(avatar: Avatar) -> None:
    canvas = avatar.portrait.canvas
    cut = mouth_of(canvas.image, canvas.landmarks)
    assert cut.shape == (72, 96, 3) and cut.std() > 5
    lost = np.full_like(canvas.landmarks, np.nan)
    assert mouth_of(canvas.image, lost).max() == 0


def test_a_folder_without_speech_says_so(clips: Path) -> None:
    with pytest.raises(InputError, match="no usable clip"):
        evaluation.evaluate_motion(clips)


def test_report_has_a_column_for_every_side() -> None:
    figures = {"opening_r": 0.5, "drift_max_of": "yaw", "sync_accuracy": 0.9, "rendered": 3}
    figures |= {"real": {"opening_r": 1.0}, "shifted": {"opening_r": 0.0}}
    text = motion_report(figures)
    assert "| opening_r | 0.5 | 1 | 0 |" in text
    assert "sync_accuracy 0.9" in text and "yaw" in text
    assert flat(json.loads(json.dumps({"a": {"b": 1, "c": [1]}}))) == {"a.b": 1}


def test_all_parts_are_in_one_report() -> None:
    parts = {
        "decoder": {"mouth_l1_ratio": 0.77, "real": {}},
        "motion": {"opening_r": 0.5, "real": {"opening_r": 1.0}},
        "controls": {"gaze": {"error": 3.0}},
    }
    text = whole_report(parts)
    for line in ("| mouth_l1_ratio | 0.77 |", "| opening_r | 0.5 | 1 |", "| gaze.error | 3 |"):
        assert line in text


def test_a_missing_folder_is_a_users_error() -> None:
    result = CliRunner().invoke(cli.app, ["eval", "motion", "--data", "nowhere"])
    assert result.exit_code != 0
    assert isinstance(result.exception, InputError) or result.exit_code == 2


def test_a_sheet_shows_every_side(avatar: Avatar) -> None:
    image, points = avatar.portrait.canvas.image, avatar.portrait.canvas.landmarks
    tracks = np.repeat(points[None], 40, axis=0)
    mouths = [mouth_of(image, points)] * 40
    take = Take(tracks, Motion.zeros(40), mouths)
    sound = np.zeros((160, 64))
    scene = Scene("lady", "all", "", 0.0, np.zeros(25_600), sound, take, {}, {"made": take})
    graph, strips = motion_sheets.graph(scene), motion_sheets.strips(scene)
    assert graph.shape == (24 + 2 * motion_sheets.HEIGHT, 110 + 40 * motion_sheets.PIXELS, 3)
    assert strips.shape == (24 + 2 * 72, 110 + motion_sheets.STRIP * 96, 3)


def test_frames_a_second() -> None:
    assert motion_long.MINUTE == 60 * FPS
