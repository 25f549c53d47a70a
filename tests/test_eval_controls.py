"""The measures of gaze, distance and emotion, from clips to figures and sheets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_wav

from sfumato import weights
from sfumato.avatar import Avatar, Studio
from sfumato.errors import InputError
from sfumato.eval import controls
from sfumato.geometry import topology
from sfumato.landmarks import FaceEncoder
from sfumato.media.audio import AudioReader
from sfumato.media.image import load_image
from sfumato.timebase import SAMPLE_RATE

pytestmark = pytest.mark.unit


class SmileReader:
    """Stands in for a network: joy is how high the corners of the mouth lie."""

    classes = ("happy", "neutral")

    def __init__(self, path: Path) -> None:
        del path

    def read(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        del image
        left, right = topology.OUTER_CORNERS
        unit = np.linalg.norm(landmarks[left, :2] - landmarks[right, :2])
        corners, lips = landmarks[[61, 291], 1].mean(), landmarks[[13, 14], 1].mean()
        joy = 1 / (1 + np.exp(-20 * (lips - corners) / unit))
        return np.array([joy, 1 - joy])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, avatar: Avatar) -> Path:
    """One clip of the built-in portrait that speaks for two seconds."""
    folder = tmp_path_factory.mktemp("speakers")
    with weights.find("demo/speech.ogg").open("rb") as handle:
        speech = Path(handle.name)
    with AudioReader(speech) as reader:
        samples = np.concatenate(list(reader))[: 2 * SAMPLE_RATE]
    write_wav(folder / "two.wav", samples[:, None], SAMPLE_RATE)
    (folder / "lady").mkdir()
    avatar.animate(folder / "two.wav").save(folder / "lady" / "says.mp4")
    (folder / "two.wav").unlink()
    return folder


@pytest.fixture(scope="module")
def measured(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    report = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(controls, "EmotionReader", SmileReader)
        patcher.setattr(controls, "SPOKEN", 20)
        found = controls.evaluate_controls(clips, Path("judge.onnx"), report=report, say=str)
    return found, report


def test_gaze_and_distance_are_near_what_was_asked(measured: tuple[dict, Path]) -> None:
    found = measured[0]
    assert found["people"] == 1
    assert found["gaze"]["yaw_error"] < 5 and 0.7 < found["gaze"]["yaw_slope"] < 1.3
    assert found["distance"]["error"] < 0.03 <= found["distance"]["worst"] + 0.03


def test_a_judge_of_smiles_sees_joy_and_only_what_it_knows(measured: tuple[dict, Path]) -> None:
    emotion = measured[0]["emotion"]
    assert emotion["happy"]["moved"] == 1.0 and emotion["happy"]["rise"] > 0.05
    assert emotion["moved"] == 1.0 and "happy" not in emotion["not_judged"]
    assert set(emotion["not_judged"]) == set(controls.EMOTIONS) - {"neutral", "happy"}
    assert set(emotion["lips"]) == {"all", *controls.EMOTIONS} - {"neutral"}
    assert -0.2 < emotion["lips"]["all"]["lost_against_neutral"] < 0.5
    json.dumps(measured[0])


def test_sheets_show_every_look_and_feeling(measured: tuple[dict, Path]) -> None:
    gaze, emotion = (load_image(measured[1] / f"{n}.png") for n in ("gaze", "emotion"))
    assert gaze.shape == (controls.TILE, 7 * controls.TILE, 3)
    assert emotion.shape == (controls.TILE, len(controls.EMOTIONS) * controls.TILE, 3)
    tiles = np.hsplit(gaze.astype(int), 7)
    assert np.abs(tiles[0] - tiles[4]).mean() > 0.5  # far left, far right


def test_without_a_judge_only_lips_are_measured(
    clips: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "SPOKEN", 6)
    monkeypatch.setattr(controls, "EMOTIONS", ("neutral", "happy"))
    someone = controls.people(studio, controls.one_of_each_person(clips))
    figures, sheet = controls.emotion(studio, someone, None, str)
    assert "--judge" in figures["skipped"] and set(figures["lips"]) == {"all", "happy"}
    assert sheet is not None and sheet.shape[1] == 2 * controls.TILE


def test_clips_without_a_frontal_face_are_refused(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaceEncoder, "faces", lambda *_: [])
    with pytest.raises(InputError, match="from the front"):
        controls.evaluate_controls(clips)
