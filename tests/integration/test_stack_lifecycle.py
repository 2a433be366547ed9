"""How a local Supabase starts and ends, in good order or by force, and what it leaves behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from local_supabase.accounts import Account, service_account
from local_supabase.folders import cache_dir
from local_supabase.stack import StackInfo
from tests.support.processes import alive, descendants, one, owner, until
from tests.support.stack import connection, insert_user, launch, running_stack

POSTGRES = ("native/bin/postgres", " -D ")
GATEWAY = ("server.mjs",)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder with a space in its name that every account can pass through, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="local supabase test ", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def stranger() -> Iterator[int]:
    """The pid of another program of the account that PostgreSQL runs under."""
    options: dict[str, Any] = service_account().popen_options()
    with subprocess.Popen(["sleep", "600"], **options) as process:
        yield process.pid
        process.kill()


def ports(info: StackInfo) -> list[int]:
    """Return the ports of a stack's origin and of its PostgreSQL."""
    return [port for url in (info.supabase_url, info.database_url) if (port := urlsplit(url).port)]


def listening(info: StackInfo) -> list[int]:
    """Return those of the ports that accept connections."""
    found = []
    for port in ports(info):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found


async def has_user(info: StackInfo, user: UUID) -> bool:
    """Say whether the stack's database knows a user."""
    async with connection(info) as database:
        return bool(await database.fetchval("select exists (select from auth.users where id = $1)", user))


async def new_user(info: StackInfo) -> UUID:
    """Insert a user."""
    async with connection(info) as database:
        return await insert_user(database)


def give_packages(cache: Path, account: Account) -> None:
    """Put what this account has installed into another's cache, to spare a second download."""
    cache.mkdir(parents=True)
    ours = shutil.ignore_patterns("gateway-*")
    for packages in cache_dir().glob("packages-*"):
        if packages.is_dir():
            shutil.copytree(packages, cache / packages.name, symlinks=True, copy_function=os.link, ignore=ours)
            os.chown(cache / packages.name, account.uid, account.gid)


def python_for(options: dict[str, Any]) -> str:
    """Return a Python that another account can run: ours, or else the system's if of the same version."""
    for python in (sys.executable, shutil.which("python3", path=os.defpath)):
        code = "import sys; print(*sys.version_info[:2])"
        try:
            shown = subprocess.run(
                [str(python), "-c", code], capture_output=True, text=True, check=True, **options
            ).stdout
        except OSError:
            continue
        if shown.split() == [str(number) for number in sys.version_info[:2]]:
            return str(python)
    pytest.skip("no Python of this version that another account may run")


def test_two_at_once_and_nothing_left(tmp_path: Path, open_folder: Path) -> None:
    """Two stacks run side by side, each with one READY line; SIGTERM, and SIGINT twice, leave nothing of either."""
    temporary = [open_folder / name for name in ("first", "second")]
    for folder in temporary:
        folder.mkdir(mode=0o711)
    stacks = [launch("--faults", folder=tmp_path, env={"TMPDIR": str(folder)}) for folder in temporary]
    try:
        for stack in stacks:
            stack.await_ready()
        infos = [stack.info for stack in stacks]
        assert len({port for info in infos for port in ports(info)}) == 4
        assert len({key for info in infos for key in (info.secret_key, info.jwt_secret, info.database_url)}) == 6
        assert [listening(info) for info in infos] == [ports(info) for info in infos]
        for info in infos:
            assert info.faults_socket is not None
            assert stat.S_IMODE(Path(info.faults_socket).stat().st_mode) == 0o600
        children = [descendants(stack.process.pid) for stack in stacks]
        assert all(len(found) >= 3 for found in children)
        first, second = stacks
        assert first.stop(signal.SIGTERM) == 0
        assert httpx.get(f"{infos[1].supabase_url}/auth/v1/.well-known/jwks.json").status_code == 200
        second.process.send_signal(signal.SIGINT)
        assert second.stop(signal.SIGINT) == 0
    finally:
        for stack in stacks:
            stack.stop()
    assert [alive(found) for found in children] == [{}, {}]
    assert [listening(info) for info in infos] == [[], []]
    assert [list(folder.iterdir()) for folder in temporary] == [[], []]


def test_signal_during_the_start(tmp_path: Path, open_folder: Path) -> None:
    """SIGTERM before READY ends the start and leaves nothing."""
    stack = launch(folder=tmp_path, env={"TMPDIR": str(open_folder)})
    assert until(lambda: "Starting PostgreSQL" in stack.stderr(), seconds=240)
    children = descendants(stack.process.pid)
    assert stack.stop(signal.SIGTERM) == 0
    assert "READY" not in stack.stderr()
    assert alive(children) == {}
    assert list(open_folder.iterdir()) == []


@pytest.mark.parametrize(("part", "words"), [("PostgreSQL", POSTGRES), ("The REST and Auth gateway", GATEWAY)])
def test_crash_of_a_part_stops_all(part: str, words: tuple[str, ...], tmp_path: Path, open_folder: Path) -> None:
    """When a part is killed, the stack says which, ends with status 1, and leaves nothing."""
    with running_stack(folder=tmp_path, env={"TMPDIR": str(open_folder)}) as stack:
        children = descendants(stack.process.pid)
        os.kill(one(children, *words), signal.SIGKILL)
        assert stack.process.wait(30) == 1
        assert f"local_supabase: {part} was killed by SIGKILL" in stack.stderr()
        assert until(lambda: not alive(children))
        assert listening(stack.info) == []
        assert list(open_folder.iterdir()) == []
        secrets = (stack.info.secret_key, stack.info.jwt_secret, urlsplit(stack.info.database_url).password or "")
        assert not any(secret in stack.stderr() for secret in secrets)


async def test_data_folder(tmp_path: Path, open_folder: Path, stranger: int) -> None:
    """A supervisor killed by SIGKILL leaves no process and no temporary folder, and a data folder with all data."""
    home, temporary = open_folder / "my data", open_folder / "temporary"
    temporary.mkdir(mode=0o711)
    options: dict[str, Any] = {"folder": tmp_path, "env": {"TMPDIR": str(temporary)}}
    with running_stack("--data-dir", str(home), **options) as stack:
        first = stack.info
        user = await new_user(first)
        refused = launch("--data-dir", str(home), **options)
        assert refused.process.wait(30) == 1
        refused.stop()
        assert f"the data folder {home} is in use by another local Supabase" in refused.stderr()
        children = descendants(stack.process.pid)
        stack.process.kill()
        stack.process.wait()
        assert until(lambda: not alive(children))
        assert listening(first) == []
        assert until(lambda: not list(temporary.iterdir()))
    # By now the killed server's pid may be another program's of the same account.
    (home / "postgres/postmaster.pid").write_text(f"{stranger}\n{home}\n0\n0\n\n127.0.0.1\n0 0\nready\n")
    with running_stack("--data-dir", str(home), **options) as again:
        assert await has_user(again.info, user)
        assert (again.info.secret_key, again.info.jwt_secret) == (first.secret_key, first.jwt_secret)
    assert stat.S_IMODE((home / "keys.json").stat().st_mode) == 0o600
    assert list(temporary.iterdir()) == []


def test_port_in_use(tmp_path: Path) -> None:
    """A port that is taken is named, before anything is started."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        stack = launch("--port", str(port), folder=tmp_path)
        assert stack.process.wait(30) == 1
        stack.stop()
    assert f"port {port} on 127.0.0.1 is in use" in stack.stderr()
    assert "PostgreSQL" not in stack.stderr()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's PostgreSQL runs as that user")
def test_data_folder_out_of_reach(tmp_path: Path, open_folder: Path) -> None:
    """For root, a data folder that PostgreSQL's account cannot reach is refused, and not created."""
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    stack = launch("--data-dir", str(closed / "new/data"), folder=tmp_path)
    assert stack.process.wait(60) == 1
    stack.stop()
    assert f"{closed} is closed to that account" in stack.stderr()
    assert list(closed.iterdir()) == []


def test_bad_migration(tmp_path: Path, open_folder: Path) -> None:
    """A migration that PostgreSQL refuses ends the start with the CLI's words: the error and the statement."""
    migrations = tmp_path / "project/supabase/migrations"
    migrations.mkdir(parents=True)
    (migrations.parent / "config.toml").write_text('project_id = "other"\n[db]\nmajor_version = 17\n')
    (migrations / "20260101000000_good.sql").write_text("create table public.good (id int primary key);")
    (migrations / "20260102000000_bad.sql").write_text("create table public.bad (id no_such_type);")
    stack = launch("--project-dir", str(tmp_path / "project"), folder=tmp_path, env={"TMPDIR": str(open_folder)})
    assert stack.process.wait(240) == 1
    stack.stop()
    for words in ("supabase db push failed", "20260102000000_bad.sql", "no_such_type"):
        assert words in stack.stderr(), stack.stderr()
    assert list(open_folder.iterdir()) == []


def test_project_without_settings(tmp_path: Path) -> None:
    """A project folder that is none is named."""
    stack = launch("--project-dir", str(tmp_path), folder=tmp_path)
    assert stack.process.wait(30) == 1
    stack.stop()
    assert f"{tmp_path}/supabase/config.toml cannot be read" in stack.stderr()


def test_parts_run_without_rights(stack: StackInfo) -> None:
    """Neither PostgreSQL nor the gateway runs as root, whoever starts them."""
    if not stack.faults_socket:
        pytest.skip("needs the local stack")
    children = descendants(os.getpid())
    assert owner(one(children, "native/bin/postgres", " -D ", f"port={ports(stack)[1]}")) != 0
    assert all(owner(pid) != 0 for pid, command in children.items() if "server.mjs" in command)


def test_secrets_are_no_arguments(stack: StackInfo) -> None:
    """No program's command line, which every account can read, holds a key or the password."""
    if not stack.faults_socket:
        pytest.skip("needs the local stack")
    commands = " ".join(descendants(os.getpid()).values())
    assert "server.mjs" in commands
    secrets = (stack.secret_key, stack.jwt_secret, urlsplit(stack.database_url).password or "")
    assert not any(secret in commands for secret in secrets)


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_ordinary_user(tmp_path: Path, open_folder: Path) -> None:
    """An ordinary user with a home that nobody else can read starts a stack too, below that home."""
    account = pwd.getpwnam("nobody")
    home = open_folder / "home"
    give_packages(home / ".cache/local-supabase", service_account())
    for folder in (home, home / ".cache", home / ".cache/local-supabase"):
        os.chown(folder, account.pw_uid, account.pw_gid)
        folder.chmod(0o700)
    options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    env = {"HOME": str(home), "TMPDIR": str(home)}
    how: dict[str, Any] = {"folder": tmp_path, "cwd": Path("/"), "options": options, "python": python_for(options)}
    with running_stack(env=env, **how) as stack:
        children = descendants(stack.process.pid)
        assert {owner(pid) for pid in children} == {account.pw_uid}
        answer = httpx.get(f"{stack.info.supabase_url}/rest/v1/user_streaks", headers={"apikey": stack.info.secret_key})
        assert (answer.status_code, answer.json()) == (200, [])
    assert [entry.name for entry in home.iterdir()] == [".cache"]
    assert alive(children) == {}
