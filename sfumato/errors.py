"""Errors that a user can cause and cure. The command line prints them on one line and exits 2."""

from __future__ import annotations


class SfumatoError(Exception):
    """Base of all errors with a message for the user: what is wrong, where, and the cure."""


class InputError(SfumatoError):
    """A file or value that was given cannot be used."""


class NoFaceError(InputError):
    """No usable human-like face in the picture."""


class OutputError(SfumatoError):
    """The result cannot be written where it was asked for."""


def refusals(skipped: dict[str, str]) -> str:
    """The end of a sentence about clips or pictures of which none served: why the first did not."""
    if not skipped:
        return ": none was found"
    name, why = next(iter(skipped.items()))
    return f" ({len(skipped)} refused; {name}: {why})"
