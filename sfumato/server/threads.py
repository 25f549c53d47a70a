"""Threads that give way to live sessions."""

from __future__ import annotations

import os
import sys
import threading


def give_way(steps: int) -> None:
    """Let the calling thread, and those that it will start, run when others have no need.

    Where the system knows no priorities of threads, nothing changes.

    Args:
        steps: 1 to 19; at 10 a busy live session gets ten times as much of a core.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), steps)
