"""Training of the blendshapes: what was planted is found, mirrors agree."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sfumato.arkit import BLENDSHAPES, MIRROR, N_BLENDSHAPES, N_FEATURES, ArkitMap
from sfumato.corpus import ClipInfo
from sfumato.errors import InputError
from sfumato.geometry import topology as topo
from sfumato.latent import FaceBasis
from sfumato.train import arkit as training

pytestmark = pytest.mark.unit

BASIS = FaceBasis.load()
LEFT, RIGHT = BLENDSHAPES.index("mouthSmileLeft"), BLENDSHAPES.index("mouthSmileRight")
JAW = BLENDSHAPES.index("jawOpen")


def _rows(count: int = 600) -> training.Rows:
    """A jaw that follows ``mouth_open``, a smile of one side that follows a component."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((count, N_FEATURES)) * np.r_[np.ones(40), 0.1, 0.1]
    x = np.r_[half, half @ training.mirror_matrix(BASIS)]
    rises = np.zeros((2 * count, N_BLENDSHAPES))
    rises[:, JAW] = 1 / (1 + np.exp(3 - 1.5 * x[:, 2]))
    rises[:, LEFT] = np.clip(0.2 * x[:, 7] + 0.2 * x[:, 4], 0, 1)
    rises[:count, RIGHT], rises[count:, RIGHT] = rises[count:, LEFT], rises[:count, LEFT]
    clip = np.repeat(np.arange(12), count // 6)
    return training.Rows(x, rises, rises, np.ones(2 * count), clip, 3)


def test_the_teachers_order() -> None:
    assert len(training.SCORES) == 52 and len(training.SEEN) == 146
    assert training.SCORES[:2] == ("_neutral", "browDownLeft")
    assert training.SCORES[-1] == "noseSneerRight"


def test_two_mirrors_give_back_what_was_there() -> None:
    flip = training.mirror_matrix(BASIS)
    np.testing.assert_allclose(flip @ flip, np.eye(N_FEATURES), atol=1e-6)
    assert flip[0, 1] == pytest.approx(1) and flip[2, 2] == pytest.approx(1)


def test_what_was_planted_is_found() -> None:
    rows = _rows()
    made = training.fit_scores(rows, BASIS)
    told = np.flatnonzero(np.abs(made.weight).any(axis=0))
    assert set(told) == {JAW, LEFT, RIGHT}
    assert training.within_clips(rows, made.scores(rows.features))[told].min() > 0.9
    flip = training.mirror_matrix(BASIS)
    np.testing.assert_allclose(flip @ made.weight[:, LEFT], made.weight[:, RIGHT], atol=1e-9)
    np.testing.assert_allclose(flip @ made.weight[:, JAW], made.weight[:, JAW], atol=1e-9)
    assert not made.scores(np.zeros((1, N_FEATURES))).any()


def test_targets_move_what_they_are_called() -> None:
    rows = _rows()
    made = training.fit_scores(rows, BASIS)
    targets = training.fit_targets(rows, made, BASIS)
    assert targets[JAW, topo.CHIN, 1] > 0.02  # y down
    assert np.abs(targets[JAW, list(topo.LEFT_BROW_UPPER)]).max() < 1e-3
    flipped = targets[list(MIRROR)][:, topo.MIRROR] * [-1, 1, 1]
    np.testing.assert_allclose(flipped, targets, atol=1e-6)


def test_the_steps_follow_the_slope() -> None:
    rng = np.random.default_rng(1)
    x, theta = rng.standard_normal((5, 3)), rng.standard_normal(4)
    slopes = training._student(x, theta)[1]
    for k in range(4):
        step = np.eye(4)[k] * 1e-6
        told = (
            training._student(x, theta + step)[0] - training._student(x, theta - step)[0]
        ) / 2e-6
        np.testing.assert_allclose(slopes[:, k], told, atol=1e-6)


def _opening_mouth(path: Path, count: int = 40, pace: float = 3.0) -> None:
    """Tracks of a mouth that opens and closes."""
    motion = np.zeros((count, 40), np.float32)
    motion[:, 2] = 1 + np.sin(np.arange(count) / pace)
    shapes = BASIS.mean + np.tensordot(motion, BASIS.expression, axes=1)
    np.savez(path, landmarks=100 * shapes.astype(np.float32) + 200)


def _lips(landmarks: np.ndarray) -> np.ndarray:
    """A teacher that measures the lips."""
    scores = np.zeros(N_BLENDSHAPES)
    scores[JAW] = np.clip((landmarks[14, 1] - landmarks[13, 1]) / 100, 0, 1)
    return scores


def test_clips_are_read_and_mirrored(tmp_path: Path) -> None:
    count = 40
    _opening_mouth(tmp_path / "a.npz", count)
    clip = ClipInfo("a", tmp_path / "a.mp4", person="one")
    rows = training.collect([clip], tmp_path, BASIS, _lips)
    assert rows.people == 1 and len(rows.features) == 2 * count
    assert np.corrcoef(rows.features[:count, 2], rows.rises[:count, JAW])[0, 1] > 0.98
    np.testing.assert_allclose(rows.rises[:count, JAW], rows.rises[count:, JAW])
    with pytest.raises(InputError, match="No usable tracks"):
        training.collect([ClipInfo("b", tmp_path / "b.mp4")], tmp_path, BASIS, _lips)


@pytest.mark.parametrize("tested", [False, True])
def test_from_tracks_to_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tested: bool
) -> None:
    """The whole command but the teacher; people of the test split, where there are any, judge."""
    monkeypatch.setattr(training, "load_teacher", lambda bundle: _lips)
    rows = ["clip\tsplit\tperson"]
    for number in range(4):
        split = "test" if tested and number == 3 else "train"
        rows.append(f"{number}.mp4\t{split}\tp{number}")
        (tmp_path / f"{number}.mp4").touch()
        _opening_mouth(tmp_path / f"{number}.npz", pace=3.0 + number)
    (tmp_path / "index.tsv").write_text("\n".join(rows), encoding="utf8")
    found = training.train_arkit(tmp_path, tmp_path, Path("a.task"), tmp_path / "arkit.npz")
    assert found["people"] == (3 if tested else 4)
    assert ("jawOpen" in found) == ("held-out people" in found) == tested
    if tested:
        assert found["jawOpen"] > 0.95 and found["held-out people"] == 1
    monkeypatch.setenv("SFUMATO_WEIGHTS", str(tmp_path))
    told = ArkitMap.load.__wrapped__().scores(np.eye(N_FEATURES)[[2]])[0]
    assert told.argmax() == JAW and told[JAW] > 0


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", ModuleType("ai_edge_litert"))
    with pytest.raises(InputError, match="pip install ai-edge-litert"):
        training.load_teacher(Path("a.task"))


def test_a_wrong_bundle_is_told(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "a.task").write_bytes(b"no zip")
    with pytest.raises(InputError, match="face_landmarker"):
        training.load_teacher(tmp_path / "a.task")
