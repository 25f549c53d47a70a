"""Rules for all tests: every module names its kind, nothing touches the user's own settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sfumato.avatar import Avatar, Studio

KINDS = {"unit", "torch", "slow"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not KINDS & {marker.name for marker in item.iter_markers()}:
            raise pytest.UsageError(
                f"{item.nodeid}: no kind; set pytestmark = pytest.mark.unit, torch or slow"
            )


@pytest.fixture(autouse=True, scope="session")
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys are made in a temporary folder; scope is the session as making one takes a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_HOME", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture(scope="session")
def studio() -> Studio:
    """The shipped networks, loaded once."""
    import sfumato

    return sfumato.load()


@pytest.fixture(scope="session")
def photo() -> Path:
    """The built-in portrait, a file."""
    from sfumato import weights

    with weights.find("demo/portrait.jpg").open("rb") as handle:
        return Path(handle.name)


@pytest.fixture(scope="session")
def avatar(studio: Studio, photo: Path) -> Avatar:
    """The built-in portrait, prepared once at 256 pixels; it holds no state."""
    return studio.avatar(photo, size=256)


@pytest.fixture
def no_leftovers(tmp_path: Path) -> Iterator[Path]:
    """A folder that must hold no partial file when the test is over."""
    yield tmp_path
    assert not list(tmp_path.glob("*.partial.*"))
