"""The index of a data folder: what it says, what it leaves open, what may be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfumato.corpus import cleared_pictures, is_cleared, read_index, watchers
from sfumato.errors import InputError
from sfumato.tracks import load_samples

pytestmark = pytest.mark.unit


def _index(folder: Path, *rows: str) -> Path:
    path = folder / "index.tsv"
    path.write_text("\n".join(row.replace("|", "\t") for row in rows) + "\n", encoding="utf8")
    return path


def test_a_folder_without_an_index_lists_its_videos(tmp_path: Path) -> None:
    for name in ("anna/one.mp4", "anna/two.MOV", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clips = read_index(tmp_path)
    assert [(c.name, c.person, c.split) for c in clips] == [
        ("anna/one", "anna", "train"),
        ("anna/two", "anna", "train"),
    ]
    with pytest.raises(InputError, match="cleared licence"):
        read_index(tmp_path, cleared=True)


def test_a_clip_that_lies_in_no_folder_is_somebody_of_its_own(tmp_path: Path) -> None:
    for name in ("one.mp4", "two.webm", "anna/1.mp4", "anna/2.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        track = (tmp_path / "tracks" / name).with_suffix(".npz")
        track.parent.mkdir(parents=True, exist_ok=True)
        np.savez(track, landmarks=np.random.default_rng(0).random((9, 478, 3)))
    assert [c.person for c in read_index(tmp_path)] == ["anna", "anna", "one", "two"]
    assert [s.person for s in load_samples(tmp_path / "tracks", None)] == [
        "anna",
        "anna",
        "one",
        "two",
    ]


def test_of_two_people_one_watches_and_stays_where_they_are() -> None:
    for count in range(2, 30):
        people = [f"person {number}" for number in range(count)]
        found = watchers(people, 12)
        assert found and found < set(people)
    many = {f"person {number}" for number in range(1200)}
    assert 60 < len(watchers(many, 12)) < 140
    assert watchers(many, 12) <= watchers(many | {"one more"}, 12)
    assert watchers(["somebody", "somebody"], 1) == {"somebody"}
    assert watchers(["anna", "ben"], 1) == {"anna"}


def test_missing_columns_give_the_defaults(tmp_path: Path) -> None:
    index = _index(tmp_path, "clip|split", "ben/1.mp4|test", "ben/2.mp4|")
    first, second = read_index(tmp_path)
    assert (first.name, first.path, first.split) == ("ben/1", tmp_path / "ben/1.mp4", "test")
    assert (second.split, second.kind, second.synced, second.person) == (
        "train",
        "real",
        True,
        "ben",
    )
    assert read_index(index) == [first, second]


def test_a_source_that_is_late_is_known_and_a_clip_that_differs_not_trusted(tmp_path: Path) -> None:
    rows = [f"c/{n}.mp4|s|0.6|2|0.6" for n in range(9)]
    _index(tmp_path, "clip|source|av_r|av_lag|av_r_best", *rows, "c/9.mp4|s|0.1|-8|0.7")
    clips = read_index(tmp_path)
    assert {c.lag for c in clips} == {2}
    assert [c.trusted for c in clips] == [True] * 9 + [False]


def test_a_source_that_mixes_recordings_has_a_lag_for_each(tmp_path: Path) -> None:
    rows = [f"c/{n}.mp4|s|s:TCD_{n}|0.6|2|0.6" for n in range(7)]
    rows += [f"d/{n}.mp4|s|s:GRID_{n}|0.6|0|0.6" for n in range(7)]
    rows += [f"e/{n}.mp4|s|s:few_{n}|0.6|4|0.6" for n in range(2)]
    _index(tmp_path, "clip|source|person|av_r|av_lag|av_r_best", *rows)
    lags = {c.person.split("_")[0]: c.lag for c in read_index(tmp_path)}
    assert lags == {"s:TCD": 2, "s:GRID": 0, "s:few": 0}


@pytest.mark.parametrize(
    "words",
    [
        "MIT",
        "CC BY 4.0 (GRID corpus)",
        "GRID, CC BY 4.0",
        "CC0",
        "Unlicense (public domain)",
        "MIT repo; official portraits public domain",
    ],
)
def test_stated_licences_are_cleared(words: str) -> None:
    assert is_cleared(words)


@pytest.mark.parametrize(
    "words",
    [
        "",
        " ",
        "unknown (TV news, rights not cleared; repo MIT)",
        "CC BY 4.0 upstream; repo none",
        "no licence file; mostly public domain",
        "CC BY-SA 4.0 (page template)",
        "AGPL-3.0 (repo; recordings not separately licensed)",
        "GPL-3.0 (repo)",
        "MIT repo; official portraits",
        "CC BY-NC 4.0",
        "CC-BY-ND",
        "all rights reserved",
        "fair use",
        "unclear",
        "n/a",
        "?",
    ],
)
def test_other_licences_are_not(words: str) -> None:
    assert not is_cleared(words)


def test_only_cleared_sources_are_taken(tmp_path: Path) -> None:
    index = _index(tmp_path, "clip|person|licence", "a/1.mp4|a|MIT", "b/1.mp4|b|unknown")
    assert [c.name for c in read_index(tmp_path, cleared=True)] == ["a/1"]
    for person in "ab":
        (tmp_path / "tracks" / person).mkdir(parents=True)
        points = np.random.default_rng(0).random((9, 478, 3))
        np.savez(tmp_path / "tracks" / person / "1.npz", landmarks=points)
    tracks = tmp_path / "tracks"
    assert [s.person for s in load_samples(tracks, index)] == ["a", "b"]
    assert [s.person for s in load_samples(tracks, index, cleared=True)] == ["a"]
    _index(tmp_path, "file|licence", "x.jpg|CC0", "y.jpg|no licence file")
    assert cleared_pictures(tmp_path) == {"x.jpg"}


def test_a_bad_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.tsv"):
        read_index(tmp_path / "index.tsv")
    index = _index(tmp_path, "clip split", "a.mp4 train")
    with pytest.raises(InputError, match="'clip'"):
        read_index(index)
