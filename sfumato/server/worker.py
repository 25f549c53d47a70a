"""A process that runs live sessions for a server, see :mod:`sfumato.server.workers`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Do what standard input says, until it ends."""
    # They are for the server, which ends this; also while all that is needed is being loaded.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what else is printed is no answer

    from sfumato.server.workroom import work

    work(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
