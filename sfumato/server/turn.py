"""Where visitors and server meet when neither reaches the other: a relay (TURN, such as coturn).

The relay and this server share a secret. What a visitor gets of it is a name that says until when
it holds, and its signature as the password; the relay needs no list of users (coturn's
``use-auth-secret``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from pathlib import Path
from typing import TypedDict

from sfumato.errors import InputError

SECONDS = 12 * 3600  # that a name and its password hold; relays ask for them as a session begins
_ADDRESS = re.compile(
    r"(?P<scheme>turns?):[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:(?P<port>[0-9]{1,5}))?"
    r"(\?transport=(?P<transport>udp|tcp))?"
)


class IceServer(TypedDict):
    """Relays with what they ask for, spelled as browsers have it."""

    urls: list[str]
    username: str
    credential: str


def check(addresses: tuple[str, ...]) -> None:
    """Whether these are addresses of relays.

    Raises:
        InputError: One is none.
    """
    for address in addresses:
        found = _ADDRESS.fullmatch(address)
        if found is None or not 0 < int(found["port"] or 1) < 65536:
            raise InputError(
                f"--turn {address} is no address of a relay: say turn:HOST, turn:HOST:PORT or "
                "turn:HOST:PORT?transport=tcp"
            )
        if found["scheme"] == "turns" and found["transport"] == "udp":
            raise InputError(f"--turn {address}: turns goes over TCP, leave out ?transport=udp")


def secret(path: Path | None, environment: str | None) -> str:
    """What the relay and this server share, from a file or an environment variable.

    Args:
        path: of the file; it counts first.
        environment: content of the variable.

    Raises:
        InputError: There is none.
    """
    if path is None:
        found, place = environment or "", "SFUMATO_TURN_SECRET"
    else:
        place = f"--turn-secret {path}"
        try:
            found = path.read_text("utf8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "no text"
            raise InputError(f"{place} cannot be read ({reason}): give a file of text") from None
    if not found.strip():
        raise InputError(
            f"{place} is empty: --turn needs the secret that the relay has, coturn's "
            "static-auth-secret, in a file for --turn-secret or in SFUMATO_TURN_SECRET"
        )
    return found.strip()


def servers(addresses: tuple[str, ...], shared: str, now: float) -> list[IceServer]:
    """What a visitor needs to use the relays; nothing where there are none.

    Args:
        addresses: of the relays.
        shared: the secret.
        now: seconds since 1970.
    """
    if not addresses:
        return []
    name = str(int(now) + SECONDS)
    signed = hmac.new(shared.encode(), name.encode(), hashlib.sha1).digest()
    password = base64.b64encode(signed).decode()
    return [IceServer(urls=list(addresses), username=name, credential=password)]
