"""``sfumato serve``: the page, live sessions and videos over HTTP."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli_options import FILES, RUN, Size, Threads
from sfumato.errors import InputError, OutputError

if TYPE_CHECKING:
    from fastapi import FastAPI

NETWORK = "Network"
_GOODBYE_SECONDS = 3  # that visitors get to hang up
Turn = Annotated[
    list[str] | None,
    typer.Option(
        metavar="turn:HOST[:PORT]",
        help="Relay where WebRTC may meet; may be given several times.",
        rich_help_panel=NETWORK,
    ),
]
TurnSecret = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Holds the relay's secret; otherwise SFUMATO_TURN_SECRET does.",
        rich_help_panel=NETWORK,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=0, max=256, help="Processes for live sessions; 0: this one.", rich_help_panel=RUN
    ),
]
_NEEDED = ("fastapi", "uvicorn", "websockets", "aiortc", "python_multipart", "prometheus_client")


def serve(
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0: everywhere.", rich_help_panel=NETWORK)
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="0 takes any free one.", rich_help_panel=NETWORK),
    ] = 8000,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Serve https: PEM file with the chain.", rich_help_panel=NETWORK),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="PEM file with its key.", rich_help_panel=NETWORK)
    ] = None,
    hostname: Annotated[
        list[str] | None,
        typer.Option(help="Other name of this server, behind a proxy.", rich_help_panel=NETWORK),
    ] = None,
    turn: Turn = None,
    turn_secret: TurnSecret = None,
    portrait: Annotated[
        list[Path] | None,
        typer.Option(help="Photo to offer; may be given several times.", rich_help_panel=FILES),
    ] = None,
    voices: Annotated[
        Path | None, typer.Option(help="Folder with voices of piper.", rich_help_panel=FILES)
    ] = None,
    size: Size = 512,
    sessions: Annotated[
        int,
        typer.Option(min=0, help="Live sessions at a time; 0 measures.", rich_help_panel=RUN),
    ] = 0,
    workers: Workers = 0,
    threads: Threads = 0,
) -> None:
    """Open a page on which the portrait speaks live; also an HTTP interface for programs.

    Example: sfumato serve --portrait me.jpg
    """
    _check_certificate(certificate, key)
    _check_packages()
    from sfumato.server.app import create_app
    from sfumato.server.settings import ServerSettings

    settings = ServerSettings(
        portraits=tuple(portrait or ()),
        sessions=sessions or None,
        workers=workers,
        threads=threads,
        voices=voices,
        size=size,
        hostnames=_names(host, hostname or []),
        turn=tuple(turn or ()),
        turn_secret=_secret(turn or [], turn_secret),
    )
    with _bound(host, port) as listener:
        app = create_app(settings)
        _run(app, listener, certificate, key, host)


def _names(host: str, given: list[str]) -> tuple[str, ...] | None:
    """Names under which the server may be asked; None is any: on a network, where none is given."""
    from sfumato.server.guard import LOOPBACK

    if host not in LOOPBACK and not given:
        return None
    return tuple({*LOOPBACK, *(name.lower() for name in (host, *given))})


def _secret(turn: list[str], path: Path | None) -> str:
    """What relays ask for; before anything slow begins."""
    from sfumato.server.turn import check, secret

    if not turn and path is not None:
        raise InputError("--turn-secret is for relays: name one with --turn turn:HOST")
    check(tuple(turn))
    return secret(path, os.environ.get("SFUMATO_TURN_SECRET")) if turn else ""


def _check_packages() -> None:
    """Whether the extra is installed."""
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"The server needs {name}: install it with pip install 'sfumato[server]'"
            )


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Before anything slow begins."""
    from sfumato.media.files import require_file

    if (certificate is None) != (key is None):
        raise InputError("https needs both: --certificate FILE and --key FILE")
    if certificate is None or key is None:
        return
    chain = require_file(certificate, "certificate"), require_file(key, "key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*chain)
    except (ssl.SSLError, OSError) as error:
        raise InputError(
            f"{certificate} and {key} are no certificate with its key "
            f"({getattr(error, 'reason', None) or error}): give PEM files that belong together"
        ) from None


def _bound(host: str, port: int) -> socket.socket:
    """The port is taken at once, so that nobody waits in vain; visitors are let in when warm."""
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _cannot_listen(host, port, error) from None
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> OutputError:
    reason = (error.strerror or str(error)).lower()
    return OutputError(
        f"Cannot listen on {host}:{port} ({reason}): choose another --port or --host"
    )


def _run(
    app: FastAPI, listener: socket.socket, certificate: Path | None, key: Path | None, host: str
) -> None:
    import uvicorn

    from sfumato.server.patience import protocols
    from sfumato.server.socket import MOST_MESSAGE

    class Server(uvicorn.Server):
        """Tells when visitors can come."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _greet(app, listener, host, certificate is not None)

    http, ws = protocols()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=MOST_MESSAGE,
        ws_per_message_deflate=False,  # JPEG does not get smaller, only later
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        http=http,
        ws=ws,
    )
    port = listener.getsockname()[1]
    try:
        with contextlib.suppress(KeyboardInterrupt):  # this is how a server ends
            Server(config).run(sockets=[listener])
    except OSError as error:
        raise _cannot_listen(host, port, error) from None


def _greet(app: FastAPI, listener: socket.socket, host: str, safe: bool) -> None:
    from sfumato.server.guard import LOOPBACK

    near = host in LOOPBACK
    name = "localhost" if near or host in {"0.0.0.0", "::"} else host
    port = listener.getsockname()[1]
    typer.echo(f"{'https' if safe else 'http'}://{f'[{name}]' if ':' in name else name}:{port}")
    seats, workers = app.state.house.seats.count, app.state.house.workers
    sessions = "one live session" if seats == 1 else f"{seats} live sessions"
    places = f" in {workers.running} processes" if workers and workers.running > 1 else ""
    typer.echo(f"Ready for {sessions} at a time{places}; Ctrl-C ends.", err=True)
    if not near and not safe:
        typer.echo(
            "Note: browsers give the microphone only to localhost and https, see --certificate.",
            err=True,
        )
