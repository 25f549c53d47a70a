"""What a server and its workers say to each other beside live sessions.

Orders go to a worker's standard input, pickled, one after the other: nobody but the server that
started it writes there. What it tells comes back on its standard output, a line of JSON each:

    {"port": 54321}                             it is ready for sessions, there on 127.0.0.1
    {"rate": 48.2}                              frames a second, after Measure
    {"wants": ID, "has": true, "number": 3}     a session shows that portrait; it is kept already
    {"report": 5, "figures": [...]}             after Report
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfumato.avatar import Prepared
from sfumato.server.settings import ServerSettings

TOKEN = "x-sfumato-token"  # header of a connection with a worker


@dataclass(frozen=True)
class Setup:
    """The first order.

    Attributes:
        settings: of the server.
        threads: cores to use.
        token: what a connection has to know.
        folder: of its own, for what is being made.
        recordings: where finished recordings go.
        lady: the portrait that speaks when none was chosen.
    """

    settings: ServerSettings
    threads: int
    token: str
    folder: Path
    recordings: Path
    lady: Prepared


@dataclass(frozen=True)
class Measure:
    """Tell how many frames a second so many cores draw."""

    cores: int


@dataclass(frozen=True)
class Report:
    """Tell what was counted; whoever answers is well."""

    number: int


@dataclass(frozen=True)
class Answer:
    """About a portrait that was asked for.

    Attributes:
        number: of the question.
        known: there is one of that id.
        prepared: the portrait, where the worker does not have it.
    """

    number: int
    known: bool
    prepared: Prepared | None = None


@dataclass(frozen=True)
class Forget:
    """Keep a portrait no longer."""

    name: str


@dataclass(frozen=True)
class Rest:
    """Nobody is there: give back what memory is free."""


Order = Measure | Report | Answer | Forget | Rest
