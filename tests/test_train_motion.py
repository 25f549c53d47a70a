"""Training of the motion generator: exact streams, loss that falls, mirrors, rates, export."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from sfumato.errors import InputError  # noqa: E402
from sfumato.generator import FACE, Generator, GeneratorState, past_of  # noqa: E402
from sfumato.latent import FaceBasis  # noqa: E402
from sfumato.models.motion import N_DRAWN, N_FACE, N_PAST, MotionDims, MotionNet  # noqa: E402
from sfumato.timebase import FPS  # noqa: E402
from sfumato.train.blinks import find_blinks  # noqa: E402
from sfumato.train.motion import motion_loss  # noqa: E402
from sfumato.train.motion_batch import Batcher, Spread, faster  # noqa: E402
from sfumato.train.motion_clips import (  # noqa: E402
    VERSIONS,
    Take,
    ages,
    cut,
    mirrored_face,
    own_motion,
)
from sfumato.train.motion_export import (  # noqa: E402
    CLOSED,
    WIDER,
    Deployed,
    calibrate,
    export_motion,
    finish,
    made_rates,
    real_rates,
)
from sfumato.train.motion_targets import OPEN, WIDE, Measures  # noqa: E402
from sfumato.train.speech_losses import WIDTH  # noqa: E402

pytestmark = pytest.mark.torch

N_HEARD = 8
DIMS = MotionDims(N_HEARD, width=32, layers=2, heads=2, context=12, flow_width=32, flow_blocks=2)


@pytest.fixture(scope="module")
def basis() -> FaceBasis:
    return FaceBasis.load()


def _take(seed: int, frames: int = 130) -> Take:
    """Somebody whose head sways with the sound, who blinks every 40 frames."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)
    sway = np.sin(time * rng.uniform(0.1, 0.2) + rng.uniform(0, 6))
    pose = (0.1 * sway[:, None] * rng.uniform(0.5, 1, 6)).astype(np.float32)
    heard = rng.standard_normal((VERSIONS, frames, N_HEARD + N_FACE + 2)).astype(np.float32)
    heard[:, :, 0], heard[:, :, -1] = sway, 1.0
    face = heard[0, :, N_HEARD:-2] + 0.3 * rng.standard_normal((frames, N_FACE))
    glance = np.zeros((frames, 2), np.float32)
    glance[:, 0] = 0.1 * np.sign(sway)
    style = np.array([1, 0, 0, 0, 0], np.float32)
    return Take(
        pose, np.diff(pose, axis=0, prepend=pose[:1]), face.astype(np.float32), glance, glance,
        time % 40 == 20, np.abs(np.diff(glance[:, 0], prepend=0)) > 0.1, np.ones(frames, bool),
        True, heard.astype(np.float16), style, str(seed),
    )  # fmt: skip


def _net() -> MotionNet:
    torch.manual_seed(0)
    return MotionNet(DIMS)


def test_a_stream_computes_what_the_whole_does() -> None:
    net = _net().eval()
    past, heard = torch.randn(2, 40, N_PAST), torch.randn(2, 40, N_HEARD + N_FACE + 2)
    style = torch.randn(2, 5)
    state, made = torch.zeros(2, *DIMS.state_shape), []
    with torch.no_grad():
        whole = net(past, heard, style)
        for t in range(40):
            frames = torch.tensor([t])
            given, state = net.step(past[:, t], heard[:, t], style, state, frames)
            made.append(given)
    assert torch.allclose(torch.stack(made, 1), whole, atol=1e-4)


def test_frames_beyond_the_context_are_forgotten() -> None:
    net = MotionNet(replace(DIMS, layers=1)).eval()
    past, heard = torch.randn(1, 40, N_PAST), torch.randn(1, 40, N_HEARD + N_FACE + 2)
    other = past.clone()
    other[:, :10] = 0.0
    style = torch.zeros(1, 5)
    with torch.no_grad():
        a, b = net(past, heard, style), net(other, heard, style)
    assert torch.allclose(a[:, 9 + DIMS.context :], b[:, 9 + DIMS.context :], atol=1e-5)
    assert not torch.allclose(a[:, 12], b[:, 12])


def test_loss_falls(basis: FaceBasis) -> None:
    net, rng = _net(), np.random.default_rng(0)
    takes = [_take(i) for i in range(4)]
    batcher = Batcher(takes, Spread.of(takes), basis)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    seen = []
    for _ in range(30):
        batch = {k: torch.from_numpy(v[:8]) for k, v in batcher.batch(rng).items()}
        loss = motion_loss(net, batch, 2)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(loss.detach()))
    assert np.mean(seen[-5:]) < 0.8 * np.mean(seen[:5])


def test_short_clips_teach_in_short_rows(basis: FaceBasis) -> None:
    takes = [cut(_take(i), slice(0, 29)) for i in range(3)]
    batcher = Batcher(takes, Spread.of(takes), basis)
    for seed in range(4):
        assert batcher.batch(np.random.default_rng(seed))["drawn"].shape[1] == 40
    with pytest.raises(InputError, match="longer clips"):
        Batcher([cut(t, slice(0, 20)) for t in takes], Spread.of(takes), basis)


def test_the_past_is_what_the_generator_will_know(basis: FaceBasis) -> None:
    """Training and use build the same features of the past from the same motion."""
    take = _take(0)
    spread = Spread.of([take])
    batcher = Batcher([take], spread, basis, augment=False)
    own, mean = own_motion(take, 0)
    rows = batcher._arrays(take, own, mean, mirror=False)["past"]
    t = 60
    scale = {k: getattr(spread, k) for k in ("pose", "speed", "own", "glance")}
    since = [(t - np.flatnonzero(e[:t])[-1]) / FPS for e in (take.blinks, take.saccades)]
    state = replace(
        GeneratorState(np.zeros(0, np.float32)),
        pose=take.pose[t - 1], speed=np.stack([take.speed[t - 1], take.speed[t - 2]]),
        own=own[t - 1], mean=mean[t - 1], glance=take.glance[t - 1],
        since_blink=since[0], since_saccade=since[1],
    )  # fmt: skip
    np.testing.assert_allclose(rows[t], past_of(state, scale), atol=1e-4)


def test_two_mirrors_show_the_face_itself(basis: FaceBasis) -> None:
    flip = mirrored_face(basis)
    np.testing.assert_allclose(flip @ flip, np.eye(N_FACE), atol=1e-4)


def test_played_faster_everything_stays_together() -> None:
    take = _take(1)
    fast = faster(take, 1.1)
    assert len(fast) == round(len(take) / 1.1)
    assert fast.blinks.sum() == take.blinks.sum()
    np.testing.assert_allclose(
        np.cumsum(fast.speed, axis=0)[-1], fast.pose[-1] - fast.pose[0], atol=1e-5
    )


def test_ages_count_from_the_last_event() -> None:
    events = np.zeros(10, bool)
    events[3] = True
    known = np.exp(ages(events)) - 0.1
    np.testing.assert_allclose(known[4:7], np.array([1, 2, 3]) / FPS, atol=1e-5)
    assert known[3] > 3.0


def test_blinks_are_short() -> None:
    lids = np.zeros((200, 2))
    lids[50:55], lids[100:160] = 4.0, 4.0
    assert find_blinks(lids, 1.5) == [52]


def test_export_agrees_with_the_network(basis: FaceBasis, tmp_path: Path) -> None:
    net = _net().eval()
    torch.nn.init.constant_(net.events.bias, -4.0)
    takes = [_take(i) for i in range(6)]
    tuned = tmp_path / "tuned.onnx"
    scales = finish(net, Spread.of(takes), takes, takes, np.zeros(40), basis, tuned)
    export_motion(net, scales, tmp_path / "motion.onnx")
    generator = Generator.load(tmp_path / "motion.onnx")
    assert generator.scales.opener == scales.opener == OPEN - FACE.start
    state, rng = generator.start(), np.random.default_rng(0)
    inputs = (
        past_of(state, {k: np.asarray(v) for k, v in asdict(scales).items()}),
        rng.standard_normal(N_HEARD + N_FACE + 1),
        rng.standard_normal(N_DRAWN),
        np.array([0.9, 0.01]),
        np.zeros(2),
    )
    arrays = [a.astype(np.float32)[None] for a in inputs] + [state.attention]
    with torch.no_grad():
        expected = Deployed(net)(*map(torch.from_numpy, arrays), torch.zeros(1))
    made = generator.network(*arrays, np.zeros(1, np.int64))
    assert np.array_equal(made[1], expected[1].numpy())
    for ours, theirs in zip(made, expected, strict=True):  # weights of 8 bits
        assert np.abs(ours - theirs.numpy()).mean() < 0.1 * np.abs(theirs.numpy()).mean()
    rates = made_rates(Generator.load(tuned), takes)
    assert 0.5 < rates[0] / real_rates(takes)[0] < 2.0


def test_stretched_lips_open_and_close_as_real_ones(basis: FaceBasis) -> None:
    takes = []
    for seed in range(4):
        take = _take(seed)
        heard = take.heard.copy()
        heard[0, :, N_HEARD:-2] = 0.4 * take.face + 0.3
        takes.append(replace(take, heard=heard))
    measures = Measures.of(basis)
    row = measures.opening[FACE]
    stretch = calibrate(takes, measures)
    people = np.concatenate([t.face for t in takes]) @ row
    made = np.concatenate([0.4 * t.face + 0.3 for t in takes]) * stretch.gain @ row
    made = stretch.slope * (made - stretch.shut)
    assert 0.3 < (made < CLOSED).mean() / (people < CLOSED).mean() < 1.2
    assert np.quantile(made, 0.95) == pytest.approx(np.quantile(people, 0.95), rel=0.15)


def test_what_is_known_moves_as_people_and_what_is_not_stays_still(basis: FaceBasis) -> None:
    known, guessed, wrong = 10, 11, 12
    takes = []
    for seed in range(6):
        take, rng = _take(seed), np.random.default_rng(100 + seed)
        heard = take.heard.copy()
        heard[0, :, N_HEARD:-2] = 0.4 * take.face
        noise = rng.standard_normal(len(take.face)).astype(np.float32)
        heard[0, :, N_HEARD + guessed] = 0.4 * (take.face[:, guessed] + 3 * noise)
        heard[0, :, N_HEARD + wrong] *= -1
        takes.append(replace(take, heard=heard))
    gain = calibrate(takes, Measures.of(basis)).gain
    assert gain[known] == pytest.approx(1 / 0.4, rel=0.05)
    # Of a third of the amplitude right: half-way, as factors, between least error and full life.
    assert 0.3 < gain[guessed] < 0.6
    assert gain[wrong] == 0


def test_made_lips_are_as_wide_as_people_s_and_no_wider_when_they_open(basis: FaceBasis) -> None:
    measures = Measures.of(basis)
    row, width = measures.opening[FACE], measures.lips[FACE][:, WIDTH]
    jaw, corners = OPEN - FACE.start, WIDE - FACE.start
    takes = []
    for seed in range(4):
        take = _take(seed)
        face = 0.2 * take.face
        face[:, jaw] = np.sin(np.arange(len(face)) * (0.5 + 0.1 * seed))
        heard = take.heard.copy()
        heard[0, :, N_HEARD:-2] = 0.8 * face
        heard[0, :, N_HEARD + corners] += face[:, jaw]  # a loud voice widens the lips
        takes.append(replace(take, face=face, heard=heard))
    stretch = calibrate(takes, measures)

    def moves(face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return face @ row - (face @ row).mean(), face @ width - (face @ width).mean()

    made, real = [], []
    for take in takes:
        face = take.heard[0, :, N_HEARD:-2].astype(np.float32) * stretch.gain
        face[:, corners] += face @ stretch.widening
        now = face @ row
        face[:, jaw] += (stretch.slope - 1) * now / row[jaw]
        made.append(moves(face))
        real.append(moves(take.face))
    (opening, wide), (real_opening, real_wide) = (np.concatenate(x, 1) for x in (made, real))
    follow = opening @ wide / (opening @ opening)
    assert follow == pytest.approx(real_opening @ real_wide / (real_opening @ real_opening), abs=1)
    assert wide.std() == pytest.approx(WIDER * real_wide.std(), rel=0.2)
