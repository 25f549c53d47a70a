"""Figures by group of stills: colours tell skin and prints, groups count right, drift is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from sfumato import cli
from sfumato.avatar import Studio
from sfumato.errors import InputError
from sfumato.eval import colours, decoder_stills, stills_sheet
from sfumato.media.image import load_image, save_image
from sfumato.render import tint
from sfumato.render.decoder import Decoder
from sfumato.render.light import Light
from sfumato.render.renderer import Renderer
from sfumato.render.slide import Slide

pytestmark = pytest.mark.unit

TITLES = "file\tsplit\tstyle\tnotes\n"


@pytest.fixture(scope="module")
def driven(photo: Path, studio: Studio) -> decoder_stills.Driven:
    """The built-in portrait at 256 pixels in all poses, both sides explicit."""
    still = decoder_stills.Still(photo, "lady", {})
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(decoder_stills, "SIZE", 256)
        patcher.setattr(Slide, "load", lambda: None)
        patcher.setattr(Light, "load", lambda: None)
        return decoder_stills.drive(still, studio.encoder, studio.basis, None)


def patch_of(*colour: float) -> np.ndarray:
    """(8, 8, 3) uint8 of one CIELAB colour."""
    flat = np.full((8, 8, 3), colour, np.float32)
    return np.round(cv2.cvtColor(flat, cv2.COLOR_LAB2RGB) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("skin", "angle", "tone"),
    [
        ((70, 12, 15), 53.1, "light"),
        ((60, 12, 20), 26.6, "intermediate"),
        ((50, 12, 20), 0, "dark"),
        ((35, 12, 15), -45, "dark"),
    ],
)
def test_typology_angle_of_known_skin(skin: tuple, angle: float, tone: str) -> None:
    found = colours.typology_angle(tint.lab(patch_of(*skin)).mean(axis=(0, 1)))
    assert found == pytest.approx(angle, abs=1.5)
    assert colours.skin_tone(found) == tone


def test_cheeks_are_where_cheeks_are(driven: decoder_stills.Driven) -> None:
    canvas = driven.portrait.canvas
    picture = np.zeros(canvas.image.shape, np.float32)
    for point in canvas.landmarks[list(colours.CHEEKS), :2]:
        cv2.circle(picture, np.round(point).astype(int).tolist(), 12, (60, 10, 20), -1)
    assert colours.cheeks(picture, canvas.landmarks).tolist() == [60, 10, 20]


def test_a_print_has_one_tint_and_red_is_far_from_it() -> None:
    ramp = np.repeat(np.arange(20, 236, dtype=np.uint8), 40).reshape(-1, 40)
    grey = tint.lab(np.dstack([ramp] * 3)).reshape(-1, 3)
    sepia = tint.lab(np.dstack([ramp, ramp * 0.9, ramp * 0.7]).astype(np.uint8)).reshape(-1, 3)
    for tints in (grey, sepia):
        assert tint.colourfulness(tints) < 1.5 < tint.GREY
        red = tints + np.array([0, 20, 0], np.float32)
        assert tint.Tints.of(tints).apart(red).mean() == pytest.approx(20, abs=1)
    both = np.vstack([grey, grey + np.array([0, 25, 0], np.float32)])
    assert tint.colourfulness(both) > tint.GREY


def test_equal_sides_are_equal_and_sane(driven: decoder_stills.Driven) -> None:
    found = decoder_stills.judge(driven)
    learned = dict(found["learned"])
    assert learned.pop("skin_apart") == learned.pop("skin_shift") == 0
    assert learned == found["explicit"]
    assert learned["lost"] == 0 and 0 < learned["mouth_error"] < 6
    assert 0.3 < learned["mouth_opening"] < 1.5
    assert 0 <= learned["lids_left"] < 90


def test_a_red_wash_is_drift_and_a_blur_is_soft(driven: decoder_stills.Driven) -> None:
    def changed(picture: np.ndarray) -> np.ndarray:
        soft = cv2.GaussianBlur(picture, (0, 0), 3).astype(int) + (25, 0, 0)
        return np.clip(soft, 0, 255).astype(np.uint8)

    frames = driven.frames["explicit"]
    washed = {name: replace(frame, image=changed(frame.image)) for name, frame in frames.items()}
    found = decoder_stills.judge(replace(driven, frames={"explicit": frames, "learned": washed}))
    explicit, learned = found["explicit"], found["learned"]
    assert 5 < learned["skin_shift"] <= learned["skin_apart"] < 25
    for part in ("mouth", "eye"):
        assert learned[f"{part}_sharpness"] < 0.3 * explicit[f"{part}_sharpness"]
    assert learned["mouth_tint"] != explicit["mouth_tint"]


def test_what_is_not_seen_is_left_out(driven: decoder_stills.Driven) -> None:
    frames = driven.frames["explicit"]
    exact = {name: frame.landmarks for name, frame in frames.items()}
    found = decoder_stills.obedience(frames, exact)
    assert found["lost"] == found["mouth_error"] == found["lids_error"] == 0
    assert found["mouth_opening"] == 1 and found["lids_left"] < 25
    assert decoder_stills.obedience(frames, dict.fromkeys(frames)) == {"lost": 1.0}
    some = exact | {"shut": None, "wide": None}
    assert "lids_left" not in decoder_stills.obedience(frames, some)


def test_looks_of_a_grey_and_a_colour_portrait(driven: decoder_stills.Driven) -> None:
    portrait = driven.portrait
    assert decoder_stills.looks(portrait, "painting") == {"print": "colour"}
    tone = decoder_stills.looks(portrait, "photo")["skin"]
    assert tone in colours.SKIN_TONES
    grey = cv2.cvtColor(portrait.canvas.image, cv2.COLOR_RGB2GRAY)
    canvas = replace(portrait.canvas, image=np.dstack([grey] * 3))
    found = decoder_stills.looks(replace(portrait, canvas=canvas), "photo")
    assert found == {"print": "one tint"}


def test_groups_of_the_tables(tmp_path: Path) -> None:
    (tmp_path / "index.tsv").write_text(
        TITLES + "a.jpg\ttest\tphoto\tx;fh=80;yaw=3\nb.jpg\ttrain\tphoto\t\n"
        "c.jpg\ttest\tphoto\tfh=500\nd.jpg\ttest\tbw\tfh=240\n"
    )
    labels = tmp_path / "labels.tsv"
    labels.write_text("file\tage\tstyle\na.jpg\tchild\t\nc.jpg\t\tpainting\n")
    stills = decoder_stills.read_stills(tmp_path, labels)
    assert [still.name for still in stills] == ["a.jpg", "c.jpg", "d.jpg"]
    assert stills[0].groups == {"style": "photo", "face_height": "<120", "age": "child"}
    assert stills[1].groups == {"style": "painting", "face_height": ">=240"}
    assert stills[2].groups == {"style": "bw", "face_height": ">=240"}


@pytest.mark.parametrize(
    ("index", "labels", "message"),
    [
        (None, None, "cannot be read"),
        ("file\tsplit\n", None, "no column style"),
        (TITLES + "a.jpg\ttrain\tphoto\t\n", None, "no still of the test split"),
        (TITLES + "a.jpg\ttest\tphoto\t\n", "name\tage\n", "no column file"),
        (TITLES + "a.jpg\ttest\tphoto\t\n", "file\tage\nz.jpg\told\n", "z.jpg is no test still"),
    ],
)
def test_bad_tables_are_one_clear_line(
    tmp_path: Path, index: str | None, labels: str | None, message: str
) -> None:
    if index is not None:
        (tmp_path / "index.tsv").write_text(index)
    if labels is not None:
        (tmp_path / "labels.tsv").write_text(labels)
    with pytest.raises(InputError, match=message) as caught:
        decoder_stills.read_stills(tmp_path, tmp_path / "labels.tsv" if labels else None)
    assert "\n" not in str(caught.value)


def test_means_by_group_count_each_still_once() -> None:
    def row(value: float, **groups: str) -> dict:
        sides = {"explicit": {"x": 3 * value}, "learned": {"x": value, "skin_shift": 1.0}}
        return {"groups": groups} | sides

    rows = [row(1, style="photo", age="old"), row(3, style="photo"), row(8, style="bw")]
    found = decoder_stills.by_group(rows)
    assert found["style"]["photo"]["count"] == 2 and found["age"]["old"]["count"] == 1
    assert found["style"]["photo"]["learned"]["x"] == 2
    assert found["style"]["photo"]["error"] == {"x": pytest.approx(2), "skin_shift": 0}
    assert found["style"]["bw"]["error"]["x"] is None
    assert decoder_stills.summary(rows)["learned"]["x"] == 4


def test_the_command_needs_no_clips_and_skips_what_shows_no_face(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "load", lambda **_: None)
    monkeypatch.setattr(Slide, "load", lambda: None)
    monkeypatch.setattr(Light, "load", lambda: None)
    monkeypatch.setattr(decoder_stills, "SIZE", 256)
    folder = tmp_path / "stills"
    folder.mkdir()
    save_image(folder / "lady.png", load_image(photo))
    save_image(folder / "wall.png", np.full((128, 128, 3), 120, np.uint8))
    rows = "lady.png\ttest\tphoto\tfh=300\nwall.png\ttest\tphoto\t\n"
    (folder / "index.tsv").write_text(TITLES + rows)
    target, report = tmp_path / "figures.json", tmp_path / "report"
    arguments = ["--stills", str(folder), "--json", str(target), "--report", str(report)]
    result = CliRunner().invoke(cli.app, ["eval", "decoder", *arguments])
    assert result.exit_code == 0, result.output
    found = json.loads(target.read_text("utf8"))
    assert list(found) == ["stills"]
    assert found["stills"]["count"] == 1 and list(found["stills"]["skipped"]) == ["wall.png"]
    assert found["stills"]["by"]["face_height"][">=240"]["count"] == 1
    groups = found["stills"]["stills"]["lady.png"]["groups"]
    sheet = load_image(report / "stills.png")
    width = stills_sheet.SHOWN * len(stills_sheet.COLUMNS) * stills_sheet.TILE
    assert sheet.shape == (22 + len(groups) * (stills_sheet.TILE + 22), width, 3)


def test_a_command_with_nothing_to_look_at_says_so(tmp_path: Path) -> None:
    labels = tmp_path / "labels.tsv"
    labels.touch()
    given = ["--data", str(tmp_path), "--labels", str(labels)]
    for arguments, message in (([], "give --data"), (given, "give --stills")):
        result = CliRunner().invoke(cli.app, ["eval", "decoder", *arguments])
        assert result.exit_code == 2 and message in result.stderr


def test_a_decoder_is_asked(photo: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Noting(Renderer):
        def __init__(self, portrait, basis, slide=None, light=None, decoder=None):
            super().__init__(portrait, basis)
            asked.append(decoder)

    monkeypatch.setattr(decoder_stills, "Renderer", Noting)
    monkeypatch.setattr(decoder_stills, "SIZE", 256)
    monkeypatch.setattr(decoder_stills, "poses", lambda _: {"rest": decoder_stills.posed({})})
    stand_in = object()
    decoder_stills.drive(
        decoder_stills.Still(photo, "lady", {}), studio.encoder, studio.basis, stand_in
    )
    assert asked == [None, stand_in]
