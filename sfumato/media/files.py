"""Files at the border: inputs that can be read, outputs that are complete or absent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from sfumato.errors import InputError, OutputError


def require_file(path: str | Path, what: str) -> Path:
    """The path of an existing, readable, non-empty regular file.

    Args:
        path: The file a user named.
        what: What it should hold, for the message: "photo", "recording", "video".

    Raises:
        InputError: Missing, a folder, a pipe or device, empty, or not readable.
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder: name the {what} inside it.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is no ordinary file: save the {what} to a file first.")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise InputError(f"No {what} at {path}: check the name and the folder.") from None
    except PermissionError:
        raise InputError(f"No permission to read {path}: change its access rights.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path} ({_reason(error)}): check the name.") from None
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or record the {what} again.")
    return path


def check_output(
    path: str | Path,
    force: bool,
    suffixes: tuple[str, ...],
    inputs: Iterable[str | Path | None] = (),
) -> Path:
    """Find out before any work starts whether a result can be written to ``path``.

    Args:
        path: Where the result shall lie.
        force: Whether an existing file may be replaced.
        suffixes: Endings that can be written, lower case with the dot; the first is advised.
        inputs: What the result is made from; none of it may be replaced, not even with ``force``.

    Raises:
        OutputError: Wrong ending, no such folder, no permission, one of the inputs, or something is
            there already.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        known = " or ".join(suffixes)
        raise OutputError(f"Cannot write {path}: give it a name that ends in {known}.")
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a folder: add a file name, such as out{suffixes[0]}.")
        if not path.parent.is_dir():
            raise OutputError(f"No folder {path.parent} for {path.name}: make it first.")
        if any(_same(path, other) for other in inputs if other is not None):
            raise OutputError(f"{path} is one of the inputs: choose another name.")
        if path.exists() and not force:
            raise OutputError(f"{path} exists already: use --force or another name.")
        with _fresh_file(path):  # the one sure way to know: make a file there
            pass
    except PermissionError:
        raise OutputError(
            f"No permission to write in {path.parent}: choose another folder."
        ) from None
    except OSError as error:
        raise OutputError(
            f"Cannot write {path} ({_reason(error)}): choose another place."
        ) from None
    return path


def _same(path: Path, other: str | Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # one of them is not there; whoever reads it says so
        return False


@contextlib.contextmanager
def _fresh_file(path: Path) -> Iterator[Path]:
    """A new empty file beside ``path``, of the same ending, that goes away at the end."""
    partial = path.with_name(f"{path.stem}.partial.{secrets.token_hex(3)}{path.suffix}")
    # Made here, not by an encoder: it must not follow a link or hit another's file.
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield partial
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a fresh file beside ``path`` to write to; rename it to ``path`` when all went well.

    The name keeps the ending and says ``.partial.``. Whatever goes wrong, Ctrl-C included, the
    partial file goes away and ``path`` is as it was.

    Raises:
        OutputError: The file cannot be made or renamed.
    """
    with contextlib.ExitStack() as stack:
        with output_errors(path):
            partial = stack.enter_context(_fresh_file(path))
        yield partial
        with output_errors(path):
            os.replace(partial, path)


def save_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8; complete or absent.

    Raises:
        OutputError: The place cannot be written to.
    """
    with replacing(path) as partial, output_errors(path):
        partial.write_text(text, encoding="utf8")


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Around whatever writes: what the file system refuses becomes an OutputError on ``path``."""
    try:
        yield
    except OSError as error:
        cure = "free some space" if _is_full(error) else "choose another place"
        raise OutputError(f"Cannot write {path} ({_reason(error)}): {cure}.") from error


def one_line(error: BaseException, most: int | None = None) -> str:
    """What an error says, without line breaks, cut after ``most`` characters."""
    return " ".join(str(error).split())[:most]


def _is_full(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
