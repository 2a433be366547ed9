"""Dockerfile, compose file and systemd units: linted, confined, and made of commands and files that are there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from streak_client.cli import main
from tests.support.programs import output_of, program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
# Of 10, where 0 is shut off from everything; beyond 1.5 something was opened.
MOST_EXPOSED = "15"


def tool(name: str) -> Path:
    """A program of the development environment."""
    return Path(sys.executable).with_name(name)


def services() -> dict[str, dict[str, Any]]:
    """What the compose file runs."""
    found: dict[str, dict[str, Any]] = YAML(typ="safe").load(DEPLOY / "compose.yaml")["services"]
    return found


def test_the_dockerfile_passes_the_linter() -> None:
    """Hadolint has nothing to say about the Dockerfile."""
    assert not output_of(tool("hadolint"), DOCKERFILE)


def test_the_image_runs_as_nobody_in_particular_and_holds_no_secret() -> None:
    """The last stage has an unprivileged user and a health check, and no line names a secret."""
    last = DOCKERFILE.read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert not re.search(r"SECRET|PASSWORD|TOKEN|_KEY|DSN", DOCKERFILE.read_text(encoding="utf-8"))


def test_what_the_image_copies_is_enough_to_build_from(tmp_path: Path) -> None:
    """From the files that the Dockerfile copies alone, the package builds, with its SQL."""
    copied = re.findall(r"^COPY (?!--from)(.+) (\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    for sources, target in copied:
        for source in sources.split():
            place = tmp_path / (source if target == "./" else target)
            place.parent.mkdir(parents=True, exist_ok=True)
            ignore = shutil.ignore_patterns("__pycache__", ".temp", ".branches")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=ignore)
            else:
                shutil.copy(ROOT / source, place)
    uv = program("uv", "of that name on PyPI")
    output_of(uv, "build", "--wheel", "--out-dir", tmp_path / "dist", cwd=tmp_path)
    assert len(list((tmp_path / "dist").glob("*.whl"))) == 1


def test_the_build_sees_every_file_that_the_image_copies() -> None:
    """The ignore file lets through what the Dockerfile copies, and nothing that holds settings."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert allowed == {source for sources in copied for source in sources.split()}
    assert {"*", "**/.env*"} <= set(lines)


def test_the_compose_file_follows_the_specification() -> None:
    """The compose file is valid by the Compose specification."""
    output_of(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


@pytest.mark.parametrize("name", ["bridge", "api"])
def test_each_container_is_confined(name: str) -> None:
    """Bridge and API get a read-only system, no rights, loopback ports, limits and a health check, and no secret."""
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "healthcheck", "restart"} <= service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not re.search(r"SECRET|PASSWORD|TOKEN|_KEY|DSN", str(service))


@pytest.mark.parametrize("name", sorted(services()))
def test_every_container_keeps_to_loopback_and_what_it_mounts_is_there(name: str) -> None:
    """No port is open to the network by itself, nobody is privileged, and every mounted file exists."""
    service = services()[name]
    assert "privileged" not in service
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    mounts = [volume.split(":")[0] for volume in service.get("volumes", [])]
    assert all((DEPLOY / mount).exists() for mount in mounts if mount.startswith("."))


def commands() -> list[list[str]]:
    """Every command that a container or a unit starts."""
    lines = [line for unit in UNITS for line in unit.read_text(encoding="utf-8").splitlines()]
    started = [shlex.split(line.partition("=")[2]) for line in lines if line.startswith("ExecStart=")]
    return [*started, services()["bridge"]["command"], services()["api"]["command"]]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_each_command_exists_with_its_options(command: list[str]) -> None:
    """What containers and units start is a module or a command of ours, and takes these options."""
    if Path(command[0]).name == "python":
        assert command[1:] == ["-m", "realtime_bridge"]
        return
    assert Path(command[0]).name == "streaks"
    chosen = main.get_command(click.Context(main), command[1])
    assert chosen is not None
    chosen.make_context(command[1], command[2:])


def test_the_health_checks_succeed_and_fail_with_what_they_ask(tmp_path: Path) -> None:
    """A health check is a program that ends well where its URL answers 200, and badly where it does not."""
    checks = [services()[name]["healthcheck"]["test"] for name in ("bridge", "api")]
    assert [re.findall(r":\d+(/\w+)", check[-1]) for check in checks] == [["/healthz"], ["/metrics"]]
    for name in ("healthz", "metrics"):
        (tmp_path / name).write_text("ok")
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = re.findall(r"port (\d+)", server.stdout.readline())[0]
        for check in checks:
            program_text = re.sub(r":\d+/", f":{port}/", check[-1])
            assert [run(program_text), run(program_text.replace("/healthz", "/x").replace("/metrics", "/x"))] == [0, 1]
    finally:
        server.kill()
        server.communicate()


def run(text: str) -> int:
    """Run a health check's program and return its exit status."""
    return subprocess.run([sys.executable, "-c", text], check=False, capture_output=True, timeout=30).returncode


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_is_sound_and_hardened(unit: Path, tmp_path: Path) -> None:
    """Systemd finds no fault in a unit, and rates how much of the machine it is exposed to as low."""
    analyze = program("systemd-analyze", "systemd")
    # The path of the installation is not there; everything else must be right.
    text = re.sub(r"/opt/streaks/bin/\w+", "/bin/true", unit.read_text(encoding="utf-8"))
    (copy := tmp_path / unit.name).write_text(text)
    assert not output_of(analyze, "verify", "--man=no", copy)
    output_of(analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", copy)
