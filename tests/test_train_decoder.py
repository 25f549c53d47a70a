"""Training of the decoder: frames are the product's, data is what was put in, a run resumes."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import astronaut_face
import cv2
import numpy as np
import pytest
from astronaut_face import moved
from media_samples import write_video
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the training extra: make test-all")
onnx = pytest.importorskip("onnx", reason="needs the training extra: make test-all")

from sfumato import cli  # noqa: E402
from sfumato.corpus import ClipInfo  # noqa: E402
from sfumato.engine import Network  # noqa: E402
from sfumato.errors import InputError, NoFaceError  # noqa: E402
from sfumato.geometry.patches import EYES, MOUTH, PATCHES, Patch  # noqa: E402
from sfumato.landmarks import FaceEncoder  # noqa: E402
from sfumato.media.image import load_image  # noqa: E402
from sfumato.media.video import VideoReader  # noqa: E402
from sfumato.models.decoder import SHIFT_UNIT, compose, own_mouth  # noqa: E402
from sfumato.motionfile import N_INTERIOR  # noqa: E402
from sfumato.render import decoder as in_use  # noqa: E402
from sfumato.render.mend import Answer, mend  # noqa: E402
from sfumato.render.renderer import Renderer  # noqa: E402
from sfumato.train import decoder as training  # noqa: E402
from sfumato.train import decoder_cache as cache  # noqa: E402
from sfumato.train import decoder_data as data  # noqa: E402
from sfumato.train.decoder_export import export_decoder  # noqa: E402
from sfumato.train.decoder_loss import FaceFeatures  # noqa: E402
from sfumato.train.decoder_teacher import Teacher, apart  # noqa: E402
from sfumato.train.loop import Loader, follow  # noqa: E402

pytestmark = pytest.mark.torch


def _held_out(name: str) -> bool:
    return zlib.crc32(name.encode()) % 12 == 0


LEARNER = next(n for n in map(str, range(99)) if not _held_out(n))
WATCHER = next(n for n in map(str, range(99)) if _held_out(n))


def _noise(rng: np.random.Generator, *shape: int, blur: float) -> np.ndarray:
    """Smooth noise (H, W, C) float32 within -1..1."""
    soft = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), blur)
    return np.asarray(soft / np.abs(soft).max(), np.float32)


def _answer(rng: np.random.Generator, patch: Patch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flow, and mixed in both units: of training, where pictures lie in [-1, 1], and of use."""
    height, width = patch.height, patch.width
    flow = 6 * _noise(rng, height // 2, width // 2, 2, blur=6)
    keep = 0.6 + 0.4 * _noise(rng, height, width, 1, blur=6)[..., None]
    add = 0.5 * _noise(rng, height, width, 3, blur=6)
    used = np.concatenate([keep, 127.5 * (1 - keep + add)], axis=2)
    return flow, np.concatenate([keep, add], axis=2), used.astype(np.float32)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float()


def _composed(drawn: np.ndarray, flow: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    out = compose(_tensor(drawn) / 127.5 - 1, _tensor(flow), _tensor(mixed))
    return np.clip((out[0].permute(1, 2, 0).numpy() + 1) * 127.5, 0, 255)


def test_a_frame_is_composed_as_in_use() -> None:
    """An upright patch of the frame's own scale, as training sees all of them."""
    rng = np.random.default_rng(0)
    image = (128 + 120 * _noise(rng, 300, 320, 3, blur=4)).astype(np.uint8)
    flow, mixed, used = _answer(rng, MOUTH)
    x, y, height, width = 60, 70, MOUTH.height, MOUTH.width
    planes = (np.ascontiguousarray(np.moveaxis(a, 2, 0)) for a in (flow, used))
    answer = Answer(np.array([[1.0, 0, -x], [0, 1, -y]]), *planes)
    picture = np.dstack([image, np.zeros_like(image[..., :1])])
    mended = mend(picture, answer, np.ones((height, width), np.float32))
    mended.lay(picture)
    base = picture[..., :3]
    place = np.s_[y : y + height, x : x + width]
    learned = _composed(image[place], flow, mixed)
    inside = np.s_[12:-12, 12:-12]  # at the border training sees no more of the frame
    error = np.abs(base[place].astype(float) - learned)[inside]
    assert error.mean() < 0.6 and error.max() < 3
    assert np.abs(image[place].astype(float) - learned)[inside].mean() > 10


def _stirred(patch: Patch) -> training.Decoder:
    """A network whose answers are far from still, and whose layers have usual ranges."""
    torch.manual_seed(0)
    network = training.Decoder(patch)
    torch.nn.init.normal_(network.patch.answer.weight, 0, 0.1)
    for _ in range(8):
        network(_batch(patch))
    return network.eval()


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.name)
def test_export_computes_what_training_computes(patch: Patch, tmp_path: Path) -> None:
    network, batch = _stirred(patch), _batch(patch)
    flow_apart, mixed_apart = export_decoder(network.photo, network.patch, patch, batch, tmp_path)
    assert flow_apart < 0.1 and mixed_apart < 3
    views = [
        torch.nn.functional.interpolate(t, (patch.height, patch.width), mode="area")
        for t in (batch.photo[:, :3], batch.drawn[:1] * 0.5 + 0.5)
    ]
    photo, frame = (
        torch.cat([view, masks], 1)
        for view, masks in zip(views, (batch.photo[:, 3:], batch.masks[:1]), strict=True)
    )
    given = [(255 * t).contiguous().numpy() for t in (photo, frame)]
    shift = SHIFT_UNIT * batch.shift[:1].permute(0, 2, 3, 1).contiguous().numpy()
    mouth = own_mouth(photo[:, :4], batch.shift[:1], frame[:, 3:4])
    told = [batch.interior[:1].numpy(), (255 * mouth).numpy()] if patch is MOUTH else []
    known = Network(tmp_path / f"decoder_{patch.name}_photo.onnx")(given[0])
    flow, mixed = Network(tmp_path / f"decoder_{patch.name}.onnx")(given[1], shift, *known, *told)
    told = [batch.interior[:1], mouth] if patch is MOUTH else []
    with torch.no_grad():
        own_flow, own_mixed = network.patch(frame, batch.shift[:1], *network.photo(photo), *told)
    assert float(own_flow.std()) > 0.3 and float(own_mixed.std()) > 0.1
    keep, add = own_mixed[:, :1], own_mixed[:, 1:]
    expected = torch.cat([keep, 127.5 * (1 - keep + add)], 1).numpy()
    apart = np.abs(flow - own_flow.numpy())
    assert apart.mean() < 0.1 and apart.max() < 1
    assert np.abs(mixed - expected).mean() < 3


def _last_steps(graph: onnx.GraphProto) -> set[str]:
    """Kinds of nodes between the last convolutions and the outputs."""
    makers = {name: node for node in graph.node for name in node.output}
    found, waiting = set(), [output.name for output in graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.op_type != "Conv":
            found.add(node.op_type)
            waiting += node.input
    return found


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.name)
def test_what_makes_the_answer_is_not_rounded_to_bytes(patch: Patch, tmp_path: Path) -> None:
    network = _stirred(patch)
    export_decoder(network.photo, network.patch, patch, _batch(patch), tmp_path)
    model = onnx.load(tmp_path / f"decoder_{patch.name}.onnx")
    assert "QuantizeLinear" in {node.op_type for node in model.graph.node}
    assert "QuantizeLinear" not in _last_steps(model.graph)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.name)
def test_training_begins_with_what_was_drawn(patch: Patch) -> None:
    batch = _batch(patch)
    batch.photo[:, 3] = 0  # closed lips: no mouth of its own
    with torch.no_grad():
        out, flow, mixed = training.new_state(patch, torch.device("cpu")).average(batch)
    assert out.shape == batch.drawn.shape
    assert float(flow.abs().max()) < 0.5 and float(mixed[:, :1].min()) > 0.9
    assert float((out - batch.drawn).abs().mean()) < 0.06


def _batch(patch: Patch) -> data.Batch:
    generator = torch.Generator().manual_seed(0)
    height, width = patch.height, patch.width

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    return data.Batch(
        photo=rand(1, 5, height, width),
        drawn=rand(2, 3, height, width) * 2 - 1,
        real=rand(2, 3, height, width) * 2 - 1,
        masks=rand(2, 2, height, width),
        shift=rand(2, 2, height // 4, width // 4),
        interior=rand(2, N_INTERIOR) * 2 - 1,
    )


def test_the_loss_sees_as_the_shipped_network() -> None:
    picture = np.random.default_rng(3).uniform(-1, 1, (2, 3, 80, 112)).astype(np.float32)
    shipped = Network("face_features")(picture)
    features = FaceFeatures()
    found = features(torch.from_numpy(picture))
    for ours, theirs in zip(found, (shipped[1], shipped[2]), strict=True):
        unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True).clip(1e-3)
        np.testing.assert_allclose(ours.numpy(), unit, atol=2e-3)
    one = torch.from_numpy(picture)
    assert float(features.distance(one, one)) == 0
    near, far = (features.distance(one, (one + s * torch.randn(one.shape)).clamp(-1, 1))
                 for s in (0.02, 0.5))  # fmt: skip
    assert 0 < float(near) < 0.2 * float(far)


def _flat(value: int, patch: Patch) -> np.ndarray:
    return np.full((patch.height, patch.width, 3), value, np.uint8)


def _pack(frames: int = 4) -> cache.Pack:
    """Two photos, (0, 1) of the first and (2, 3) of the second; colours and shifts tell which."""
    pack = cache.Pack()
    masks = np.zeros((EYES.height, EYES.width, 2), np.uint8)
    masks[:, : EYES.width // 2, 0] = 255  # the opening lies on the left
    for owner in range(2):
        pack.photo.append(cache._jpeg(_flat(20 + 40 * owner, EYES)))
        pack.photo_masks.append(cache._mask_jpeg(masks))
    for number in range(frames):
        pack.drawn.append(cache._jpeg(_flat(100 + 10 * number, EYES)))
        pack.real.append(cache._jpeg(_flat(180 + 10 * number, EYES)))
        pack.masks.append(cache._mask_jpeg(masks))
        shift = np.zeros((EYES.height // 4, EYES.width // 4, 2), np.float32)
        pack.shift.append(shift + [number + 1, -2])
        pack.interior.append(np.full(N_INTERIOR, 0.5 * number, np.float32))
        pack.owner.append(number // 2)
        pack.after.append(number + 1 if number % 2 == 0 else -1)
    return pack


def test_a_clip_without_frames_of_a_kind_gives_no_pairs(tmp_path: Path) -> None:
    """Photos there are, but no blink was sure."""
    empty = cache.Pack(photo=_pack().photo, photo_masks=_pack().photo_masks)
    files = [
        _save(tmp_path / f"{n}.npz", f"p{n}", {"eyes": p}) for n, p in enumerate((empty, _pack()))
    ]
    assert len(data.Pairs(files, "eyes")) == len(data.Pairs(files[1:], "eyes"))


def _save(path: Path, person: str, packs: dict[str, cache.Pack], size: int = 256) -> Path:
    arrays = {k: v for name, pack in packs.items() for k, v in pack.arrays(name).items()}
    np.savez(path, **arrays, person=np.array(person), size=np.array(size))
    return path


def test_pairs_come_out_of_the_cache_as_they_went_in(tmp_path: Path) -> None:
    file = _save(tmp_path / "a.npz", LEARNER, {"eyes": _pack()})
    pairs = data.Pairs([file], "eyes")
    assert len(pairs) == 2
    batch = pairs.spread(2)
    levels = [((t + 1) * 127.5).mean((1, 2, 3)).tolist() for t in (batch.drawn, batch.real)]
    # First frames of all pairs first.
    np.testing.assert_allclose(levels, [[100, 120, 110, 130], [180, 200, 190, 210]], atol=2)
    photos = 255 * batch.photo[:, :3].mean((1, 2, 3))
    np.testing.assert_allclose(photos, [20, 60], atol=2)
    np.testing.assert_allclose(batch.photo[0, 3, 40], np.arange(112) < 56, atol=0.1)
    np.testing.assert_allclose(batch.masks[3, 0, 40], np.arange(112) < 56, atol=0.1)
    assert float(batch.masks[:, 1].max()) < 0.1
    np.testing.assert_allclose(SHIFT_UNIT * batch.shift[:, 0, 0, 0], [1, 3, 2, 4], atol=1e-3)
    assert batch.shift.shape == (4, 2, EYES.height // 4, EYES.width // 4)
    assert batch.interior[:, 0].tolist() == [0.0, 1.0, 0.5, 1.5]


def test_a_mirror_image_is_mirrored_throughout(tmp_path: Path) -> None:
    file = _save(tmp_path / "a.npz", LEARNER, {"eyes": _pack()})
    batch = data.Pairs([file], "eyes").draw(16, np.random.default_rng(0))
    left = batch.masks[:, 0, :, :40].mean((1, 2)) > 0.5
    assert 0 < int(left.sum()) < 32
    assert (left[:16] == left[16:]).all()
    assert (left[:16] == (batch.photo[:, 3, :, :40].mean((1, 2)) > 0.5)).all()
    assert ((batch.shift[:, 0].mean((1, 2)) > 0) == left).all()
    assert (batch.shift[:, 1] < 0).all()


def test_now_and_then_nothing_is_told_of_the_mouth(tmp_path: Path) -> None:
    file = _save(tmp_path / "a.npz", LEARNER, {"eyes": _pack()})
    told = data.Pairs([file], "eyes").draw(64, np.random.default_rng(0)).interior[64:, 0] > 0
    assert 32 < int(told.sum()) < 64


def test_a_start_of_another_size_gives_what_fits(tmp_path: Path) -> None:
    state = training.new_state(MOUTH, torch.device("cpu"))
    state.keep(tmp_path / "mouth.pt")
    kept = torch.load(tmp_path / "mouth.pt", weights_only=True)
    small = "patch.up4.weight"
    kept["network"][small] = kept["network"][small][:16].clone()
    kept["network"]["patch.gone.weight"] = torch.ones(3)
    del kept["network"]["patch.up8.bias"]
    torch.save(kept, tmp_path / "mouth.pt")
    other = training.new_state(MOUTH, torch.device("cpu"))
    fresh = {k: v.clone() for k, v in other.network.state_dict().items()}
    other.begin(tmp_path / "mouth.pt")
    for network in (other.network, other.average):
        for name, value in network.state_dict().items():
            if name in {small, "patch.up8.bias"}:
                assert torch.equal(value, fresh[name])
            else:
                assert torch.equal(value, kept["network"][name].to(value.dtype))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.name)
def test_a_teacher_says_of_both_frames_what_its_network_says(patch: Patch, tmp_path: Path) -> None:
    network, batch = _stirred(patch), _batch(patch)
    export_decoder(network.photo, network.patch, patch, batch, tmp_path)
    flow, mixed = Teacher.load(patch, tmp_path)(batch)
    with torch.no_grad():
        out, own_flow, own_mixed = network(batch)
    assert flow.shape == own_flow.shape and mixed.shape == own_mixed.shape
    assert len(flow) == len(batch.drawn) and not torch.equal(flow[0], flow[-1])
    assert float((flow - own_flow).abs().mean()) < 0.1 < float(own_flow.std())
    assert float((mixed - own_mixed).abs().mean()) < 0.03 < float(own_mixed.std())
    weight = torch.ones_like(batch.masks[:, :1])
    made = (compose(batch.drawn, flow, mixed), flow, mixed)
    assert float(apart(made, (flow, mixed), batch, weight)) == 0
    near = float(apart((out, own_flow, own_mixed), (flow, mixed), batch, weight))
    with torch.no_grad():
        still = training.new_state(patch, torch.device("cpu")).average(batch)
    assert near < 0.3 * float(apart(still, (flow, mixed), batch, weight))


def test_a_pupil_becomes_like_its_teacher(
    packs: dict[str, cache.Pack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher moves and darkens all; real frames would not have it so."""
    torch.manual_seed(0)
    monkeypatch.setattr(training, "BATCH", 2)
    monkeypatch.setattr(training, "critic_loss", None)  # nobody else is asked
    monkeypatch.setattr(training, "reconstruction", None)
    spread = data.Pairs.spread
    monkeypatch.setattr(data.Pairs, "spread", lambda self, count: spread(self, count // 4))
    files = [_save(tmp_path / f"{n}.npz", n, packs) for n in (LEARNER, WATCHER)]
    batch = data.Pairs(files, "eyes").spread(4)
    network = _stirred(EYES)
    export_decoder(network.photo, network.patch, EYES, batch, tmp_path)
    taught = Teacher.load(EYES, tmp_path)(batch)
    weight = torch.ones_like(batch.masks[:, :1])
    with torch.no_grad():
        before = apart(
            training.new_state(EYES, torch.device("cpu")).average(batch), taught, batch, weight
        )
    runs = tmp_path / "runs"
    training.train(EYES, files, runs, minutes=0.3, taught_by=tmp_path)
    pupil = training.new_state(EYES, torch.device("cpu"))
    pupil.load(runs / "eyes.pt")
    with torch.no_grad():
        after = apart(pupil.network.eval()(batch), taught, batch, weight)
    assert float(after) < 0.9 * float(before)


def test_the_photo_s_own_mouth_comes_back_where_it_fits() -> None:
    """The photo itself: its mouth is shown, whatever was painted over it."""
    rng = np.random.default_rng(6)
    photo = _tensor((128 + 120 * _noise(rng, MOUTH.height, MOUTH.width, 3, blur=3)) / 255)
    lips = torch.zeros_like(photo[:, :1])
    lips[:, :, 60:90, 50:120] = 1
    batch = replace(
        _batch(MOUTH),
        photo=torch.cat([photo, lips, lips], 1),
        drawn=torch.cat([(2 * photo - 1) * (1 - lips)] * 2),
        masks=torch.cat([torch.cat([lips, lips], 1)] * 2),
        shift=torch.zeros(2, 2, MOUTH.height // 4, MOUTH.width // 4),
    )
    with torch.no_grad():
        out = training.new_state(MOUTH, torch.device("cpu")).average(batch)[0]
    inside = (slice(None), slice(None), slice(60, 90), slice(50, 120))
    before = (batch.drawn - (2 * photo - 1))[inside].abs().mean()
    assert float((out - (2 * photo - 1))[inside].abs().mean()) < 0.15 * float(before)


def test_the_photo_s_own_mouth_is_moved_as_in_use() -> None:
    rng = np.random.default_rng(5)
    height, width = MOUTH.height, MOUTH.width
    photo = (128 + 120 * _noise(rng, height, width, 4, blur=3)).astype(np.uint8)
    shift = 20 * _noise(rng, height // 4, width // 4, 2, blur=3)
    lips = np.zeros((height, width, 1), np.float32)
    lips[20:] = 255
    used = in_use._own(photo, shift, lips[..., 0])[0]
    moved = own_mouth(_tensor(photo) / 255, _tensor(shift) / SHIFT_UNIT, _tensor(lips) / 255)
    assert not used[:, :20].any()  # nothing looks at it outside of the opening
    used, photo = used[:, 20:], photo[20:]
    apart = np.abs(used - 255 * moved[0, :, 20:].numpy())
    assert apart.mean() < 1 and apart.max() < 8
    assert np.abs(used - np.moveaxis(photo, 2, 0)).mean() > 10
    assert used[3].mean() < 0.7 * photo[..., 3].mean()  # stretched over more, it fits less


def test_photos_with_shut_eyes_are_drawn_more_often(tmp_path: Path) -> None:
    """One photo in eight is shut; all frames are alike."""
    files = []
    for number in range(16):
        pack = _pack()
        masks = np.zeros((EYES.height, EYES.width, 2), np.uint8)
        masks[:, : EYES.width // (8 if number < 2 else 2), 0] = 255
        pack.photo_masks = [cache._mask_jpeg(masks)] * 2
        name = [n for n in map(str, range(999)) if not _held_out(n)][number]
        files.append(_save(tmp_path / f"{number}.npz", name, {"eyes": pack}))
    pairs = data.Pairs(files, "eyes")
    photos = pairs.draw(400, np.random.default_rng(0)).photo
    shut = photos[:, 3].mean((1, 2)) < 0.2
    assert 0.2 < float(shut.float().mean()) < 0.45


def test_held_out_people_never_train(tmp_path: Path) -> None:
    files = [_save(tmp_path / f"{n}.npz", n, {"eyes": _pack()}) for n in (LEARNER, WATCHER)]
    files.append(_save(tmp_path / "long.npz", WATCHER, {"eyes": _pack(2)}))
    assert len(data.Pairs(files, "eyes")) == 2
    assert len(data.Pairs(files, "eyes", held_out=True)) == 3
    for held_out, some in ((True, files[:1]), (False, files[1:])):
        with pytest.raises(InputError, match="no pairs to learn from"):
            data.Pairs(some, "eyes", held_out)


def test_many_people_rather_than_many_clips(tmp_path: Path) -> None:
    def clip(name: str, person: str = "a", size: int = 256, **more: str) -> ClipInfo:
        (tmp_path / f"{name}.npz").touch()
        return ClipInfo(name, Path(f"{name}.mp4"), person=person, size=size, **more)

    clips = [clip(f"many{i}") for i in range(20)] + [clip(f"sharp{i}", size=512) for i in range(2)]
    clips += [clip("b", "b"), clip("test", "c", split="test"), clip("toon", "d", kind="drawn")]
    clips.append(replace(clip("e", "e"), name="untracked"))
    found = {clip.name: sources for clip, sources in cache.chosen(clips, tmp_path)}
    assert found == {"sharp0": 3, "sharp1": 3, "many0": 1, "many1": 1, "b": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipInfo, Path]:
    """A clip of the astronaut, who turns and speaks; and its landmarks, a file."""
    folder = tmp_path_factory.mktemp("clip")
    portrait = astronaut_face.portrait()
    renderer = Renderer(portrait, astronaut_face.basis())
    frames = [
        moved(portrait, yaw=n, x=0.01 * n, lips=2 + 1.5 * np.sin(n), lids=n / 4) for n in range(12)
    ]
    pictures = [renderer.render(frame).image for frame in frames]
    write_video(folder / "a.mp4", [n / 25 for n in range(12)], pictures)
    with VideoReader(folder / "a.mp4") as reader:
        faces = [FaceEncoder.load().track(picture, None) for picture in reader]
    landmarks = np.stack([face.landmarks for face in faces])
    landmarks[5] = np.nan  # the tracker lost her
    np.savez(folder / "a.npz", landmarks=landmarks)
    return ClipInfo("a", folder / "a.mp4", person=LEARNER, size=256), folder / "a.npz"


@pytest.fixture(scope="module")
def packs(clip: tuple[ClipInfo, Path]) -> dict[str, cache.Pack]:
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(cache, "_PAIRS", 12)
        return cache.pairs_of(*clip, sources=1)


def test_pairs_of_a_clip(packs: dict[str, cache.Pack], tmp_path: Path) -> None:
    assert len(packs["mouth"].photo) == 1 and len(packs["eyes"].photo) == 2
    assert 3 <= len(packs["mouth"].drawn) // 2 <= 12
    assert 0 < len(packs["eyes"].drawn) <= 2 * len(packs["mouth"].drawn)
    file = _save(tmp_path / "a.npz", LEARNER, packs)
    for patch in PATCHES:
        pack = packs[patch.name]
        batch = data.Pairs([file], patch.name).spread(4)
        assert batch.photo.shape == (4, 5, patch.height, patch.width)
        assert batch.drawn.shape == (8, 3, patch.height, patch.width)
        assert len(pack.after) == len(pack.owner) == len(pack.shift) == len(pack.real)
        # Drawn and real show the same moment: near each other, and nearer than to another one.
        own = (batch.drawn - batch.real).abs().mean((1, 2, 3))
        other = (batch.drawn - batch.real.roll(2, 0)).abs().mean((1, 2, 3))
        assert float(own.mean()) < 0.1 and float(own.mean()) < float(other.mean())
        opening = batch.masks[:, 0].mean((1, 2))
        assert float(opening.min()) > 0.003 and float(opening.max()) < 0.6


def test_the_eye_after_an_eye_is_the_same_eye(packs: dict[str, cache.Pack]) -> None:
    pack = packs["eyes"]
    for number, after in enumerate(pack.after):
        if after >= 0:
            assert after == number + 2 and pack.owner[after] == pack.owner[number] == number % 2


def test_a_tracker_in_error_is_not_believed(clip: tuple[ClipInfo, Path]) -> None:
    with np.load(clip[1]) as stored, VideoReader(clip[0].path) as reader:
        landmarks, frames = stored["landmarks"], list(reader)
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    landmarks[3, 14, 1] += 5  # lips that are wider open than in the picture
    own = cache._tracked(frames, landmarks, seen, FaceEncoder.load())
    doubt = cache._doubt(landmarks, own).max(axis=0)
    assert np.flatnonzero(doubt > cache._DOUBT).tolist() == [3, 5]


def test_a_clip_without_a_face_is_named(clip: tuple[ClipInfo, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", landmarks=np.full((12, 478, 3), np.nan, np.float32))
    with pytest.raises(NoFaceError, match="too few frames"):
        cache.pairs_of(clip[0], tmp_path / "a.npz", 1)
    problem = cache._make(clip[0], tmp_path / "a.npz", 1, tmp_path / "out.npz")
    assert problem == "a: too few frames with a face"
    assert not list(tmp_path.glob("out*"))


def test_a_run_resumes_where_it_stopped(
    packs: dict[str, cache.Pack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "BATCH", 2)
    spread = data.Pairs.spread
    monkeypatch.setattr(data.Pairs, "spread", lambda self, count: spread(self, count // 4))
    files = [_save(tmp_path / f"{n}.npz", n, packs) for n in (LEARNER, WATCHER)]
    runs = tmp_path / "runs"
    critics = []
    loss = training.critic_loss
    monkeypatch.setattr(training, "critic_loss", lambda *a: critics.append(0) or loss(*a))
    # However slow the machine is: the first run ends after a step, the second in the last half.
    training.train(EYES, files, runs, minutes=1e-6)
    first = torch.load(runs / "eyes.pt", weights_only=True)
    assert first["step"] >= 1 and first["minutes"] > 0 and not critics
    average = training.train(EYES, files, runs, minutes=1.5 * first["minutes"])
    second = torch.load(runs / "eyes.pt", weights_only=True)
    assert second["step"] > first["step"] and second["minutes"] > first["minutes"]
    assert critics
    stored = second["average"]
    for name, value in average.state_dict().items():
        assert torch.isfinite(value).all() and torch.equal(value, stored[name])
    assert any(not torch.equal(v, first["network"][k]) for k, v in second["network"].items())
    log = (runs / "eyes.log").read_text("utf8").splitlines()
    assert [line.split(":")[0] for line in log] == [
        f"eyes {state['step']}" for state in (first, second)
    ]
    assert "l1_inside" in log[0] and "nan" not in log[0]
    sheet = load_image(runs / f"eyes_{second['step']:06d}.png")
    assert sheet.shape == (4 * EYES.height, 8 * EYES.width, 3)
    assert not list(runs.glob("*.partial"))


def test_a_part_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    asked = ["train", "decoder", str(tmp_path), "--tracks", str(tmp_path), "--part", "nonsense"]
    result = CliRunner().invoke(cli.app, asked)
    assert result.exit_code == 2
    assert "--part nonsense: say mouth or eyes." in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_made_ahead(threads: int) -> None:
    loader = Loader(lambda rng: int(rng.integers(1000)), 0, threads)
    found = [loader.next() for _ in range(20)]
    loader.close()
    if threads == 1:
        rng = np.random.default_rng([0, 0])
        assert found == [int(rng.integers(1000)) for _ in range(20)]
    assert not any(thread.is_alive() for thread in loader._threads)


def test_a_broken_batch_stops_the_training() -> None:
    def make(rng: np.random.Generator) -> int:
        raise ZeroDivisionError("a broken picture")

    loader = Loader(make, 0)
    with pytest.raises(ZeroDivisionError, match="broken picture"):
        loader.next()
    loader.close()


def test_the_average_follows() -> None:
    average, network = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    torch.nn.init.constant_(network.weight, 3)
    network.num_batches_tracked += 7
    follow(average, network, 0.75)
    assert average.weight.tolist() == [1.5, 1.5]
    assert int(average.num_batches_tracked) == 7


def test_a_training_begins_with_kept_weights(tmp_path: Path) -> None:
    state = training.new_state(EYES, torch.device("cpu"))
    state.average = _stirred(EYES)
    state.keep(tmp_path / "eyes.pt")
    again = training.new_state(EYES, torch.device("cpu"))
    again.begin(tmp_path / "eyes.pt")
    batch = _batch(EYES)
    with torch.no_grad():
        one, two = (network.eval()(batch)[0] for network in (state.average, again.network))
        three = again.average.eval()(batch)[0]
    assert float((one - two).abs().max()) < 0.1 and torch.equal(two, three)
    assert again.step == 0 and again.minutes == 0
