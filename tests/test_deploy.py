"""What lies in deploy/ knows the options, addresses and files that there are. Nothing is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from sfumato import cli, identity
from sfumato.server import turn

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf8")
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf8")
KUBERNETES = (DEPLOY / "kubernetes.yaml").read_text("utf8")
CADDY = (DEPLOY / "Caddyfile").read_text("utf8")
ADDRESS = "relay.example.org"


def test_options_exist() -> None:
    command = typer.main.get_command(cli.app).commands["serve"]  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    used = set(re.findall(r'^\s*- (--[a-z-]+)=|"(--[a-z-]+)"', COMPOSE + KUBERNETES, re.M))
    used |= set(re.findall(r'"(--[a-z-]+)"()', DOCKERFILE))
    names = {name for pair in used for name in pair if name}
    assert {"--turn", "--host", "--sessions"} <= names <= known


def test_relays_are_addresses() -> None:
    found = re.findall(r"--turn=(.+)", COMPOSE + KUBERNETES)
    assert len(found) == 4
    turn.check(tuple(re.sub(r"\$\{DOMAIN[^}]*\}", ADDRESS, address) for address in found))


def test_the_image_is_made_of_files_that_are_there() -> None:
    for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M):
        for name in names.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}\n" in (DEPLOY / "Dockerfile.dockerignore").read_text("utf8")
    pyproject = (ROOT / "pyproject.toml").read_text("utf8")
    assert 'readme = "README.md"' in pyproject and 'license-files = ["LICENSE"]' in pyproject


def test_paths_are_those_of_the_server() -> None:
    routes = (ROOT / "sfumato/server/routes.py").read_text("utf8")
    for path in set(re.findall(r"/api/\w+|/metrics", DOCKERFILE + KUBERNETES + CADDY)):
        assert f'"{path}"' in routes
    assert identity._KEY_FILE in (ROOT / "docs/deploy.md").read_text("utf8")


def test_every_variable_is_in_the_example() -> None:
    example = set(re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text("utf8"), re.M))
    assert set(re.findall(r"\$\{(\w+)", COMPOSE)) == example
    assert set(re.findall(r"\{\$(\w+)\}", CADDY)) <= example
    for name in example:  # one that is missing is told at its first place
        assert f"${{{name}:?" in COMPOSE, name


def test_ports_are_the_same_everywhere() -> None:
    assert "EXPOSE 8000" in DOCKERFILE and "sfumato:8000" in CADDY
    assert "containerPort: 8000" in KUBERNETES
    document = (ROOT / "docs/deploy.md").read_text("utf8")
    low, high = re.findall(r"(?:min|max)-port=(\d+)", COMPOSE)
    assert f"{low} to {high}" in document and "listening-port=3478" in COMPOSE
