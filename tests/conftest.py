"""Rules for all tests: every module names its kind, nothing touches the user's own settings."""

from __future__ import annotations

from pathlib import Path

import pytest

KINDS = {"unit", "torch", "slow"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not KINDS & {marker.name for marker in item.iter_markers()}:
            raise pytest.UsageError(
                f"{item.nodeid}: no kind; set pytestmark = pytest.mark.unit, torch or slow"
            )


@pytest.fixture(autouse=True, scope="session")
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keys are made in a temporary folder; scope is the session as making one takes a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_HOME", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture
def no_leftovers(tmp_path: Path) -> Path:
    """A folder that must hold no partial file when the test is over."""
    yield tmp_path
    assert not list(tmp_path.glob("*.partial.*"))
