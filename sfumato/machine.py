"""What of this machine may be used."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container under Linux (cgroup v2)


def cores() -> int:
    """Cores that this process may use: those it may run on, and no more than its container's.

    A container that has a part of a core counts it as one; there is always one.
    """
    quota = _quota()
    return max(1, _allowed() if quota is None else min(_allowed(), math.ceil(quota)))


def _allowed() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> float | None:
    """Cores' worth of time; None: as much as there is."""
    try:
        time, period = _QUOTA.read_text().split()
        return int(time) / int(period)  # "max" is no number
    except (OSError, ValueError, ZeroDivisionError):
        return None
