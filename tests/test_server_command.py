"""``sfumato serve`` as a process: it comes up warm, says where, and goes without a trace."""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sfumato import cli
from sfumato.errors import OutputError

pytest.importorskip("fastapi", reason="needs the extra: server")
pytest.importorskip("aiortc", reason="needs the extra: server")

from sfumato.server.settings import ServerSettings  # noqa: E402

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform == "win32", reason="signals end it"),
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["serve", *map(str, arguments)])


def assert_one_line(result: Result, words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1 and words in result.stderr
    assert not result.stdout


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose temporary files can be looked at."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    yield os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    assert not list(temporary.glob("sfumato*"))


def start(environment: dict[str, str], *arguments: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "sfumato", "serve", "--port", "0", "--size", "256"]
    process = subprocess.Popen(
        [*command, *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def get(url: str, context: ssl.SSLContext | None = None) -> Any:
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        return json.load(answer)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, secret


def test_from_the_start_to_the_end(home: dict[str, str], tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    process, url = start(home, "--certificate", str(chain), "--key", str(key), "--sessions", "3")
    try:
        assert url.startswith("https://localhost:")
        trust = ssl.create_default_context(cafile=str(chain))
        health = get(f"{url}/api/health", trust)
        assert health["sessions"] == {"live": 0, "allowed": 3, "free": 3}
        assert [p["name"] for p in get(f"{url}/api/portraits", trust)["portraits"]] == ["Lady"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    assert told == "Ready for 3 live sessions at a time; Ctrl-C ends.\n"


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert_one_line(run("--port", port), f"Cannot listen on 127.0.0.1:{port} (address already")
    assert_one_line(run("--host", "no.such.host.invalid"), "Cannot listen on no.such.host.invalid")


def test_what_cannot_be_served(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    chain, key = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = certificate(tmp_path / "other")
    text = tmp_path / "text.pem"
    assert_one_line(run("--certificate", chain), "needs both: --certificate FILE and --key FILE")
    assert_one_line(run("--key", key), "needs both")
    assert_one_line(run("--certificate", chain, "--key", tmp_path / "none"), "No key at")
    assert_one_line(run("--certificate", text, "--key", text), "no certificate with its key")
    assert_one_line(run("--certificate", chain, "--key", other), "no certificate with its key")
    assert_one_line(run("--port", 0, "--size", 100), "size 100: choose a multiple of 8")
    assert_one_line(run("--port", 0, "--voices", tmp_path / "none"), "is no folder")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], {"localhost", "127.0.0.1", "::1"}),
        (["--hostname", "Me.Example"], {"localhost", "127.0.0.1", "::1", "me.example"}),
        (["--host", "0.0.0.0"], None),
        (
            ["--host", "0.0.0.0", "--hostname", "a.Example", "--hostname", "b.example"],
            {"localhost", "127.0.0.1", "::1", "0.0.0.0", "a.example", "b.example"},
        ),
    ],
)
def test_names_under_which_it_may_be_asked(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], names: set[str] | None
) -> None:
    def create_app(settings: ServerSettings) -> None:
        assert (settings.hostnames and set(settings.hostnames)) == names
        raise OutputError("seen")

    monkeypatch.setattr("sfumato.server.app.create_app", create_app)
    assert_one_line(run("--port", 0, *arguments), "seen")


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "aiortc" else find(name)
    )
    line = "The server needs aiortc: install it with pip install 'sfumato[server]'"
    assert_one_line(run(), line)
