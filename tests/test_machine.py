"""How many cores a process may use: affinity and a container's quota count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sfumato import machine

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a container's quota, not there yet, on a machine of 8 cores and an old Python."""
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    return tmp_path / "cpu.max"


def test_what_the_system_can_tell_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.cores() == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores() == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    assert machine.cores() == 3
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2, raising=False)
    assert machine.cores() == 2


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("0 100000\n", 1),
        ("6400000 100000\n", 8),
        ("100000 0\n", 8),
        ("nonsense\n", 8),
        ("", 8),
    ],
)
def test_a_containers_quota_counts(quota: Path, text: str, cores: int) -> None:
    quota.write_text(text)
    assert machine.cores() == cores
