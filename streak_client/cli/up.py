"""``streaks up``: the local Supabase with bridge and REST API on top, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import socket
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import SecretStr

from streak_client.cli._common import CommandError, messages
from streak_client.cli._demo import run_demo
from streak_client.cli._env_file import check_env_file, env_file
from streak_client.cli._extras import extra
from streak_client.cli._options import FiniteFloat
from streak_client.cli.replay import check_speed
from streak_client.settings import Settings

if TYPE_CHECKING:
    from local_supabase.progress import Progress
    from local_supabase.stack import LocalSupabase, StackInfo
    from streak_client.rest.serving import ServedApi

BRIDGE_PORT = 54330
API_PORT = 54340
LONGEST_WAIT = 5.0
LIVE_SECONDS = 60.0
# The last day in two minutes: time to open the dashboard and to watch.
DEMO_SPEED = 720.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; see the command's help."""

    port: int
    bridge_port: int
    api_port: int
    data_dir: Path | None
    project_dir: Path | None
    env_file: Path | None
    faults: bool
    debounce: float
    demo: bool
    speed: float


@click.command()
@click.option("--demo", is_flag=True, help="Play the real activity of 275 people, the last day live.")
@click.option(
    "--speed",
    type=FiniteFloat(0),
    default=DEMO_SPEED,
    show_default=True,
    help="With --demo: seconds of activity played in one second, at least 1; 0 is as fast as possible.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=54321, show_default=True, help="Of Supabase; 0: any free."
)
@click.option(
    "--bridge-port", type=click.IntRange(0, 65535), help=f"Default {BRIDGE_PORT}; any free one with --port 0."
)
@click.option("--api-port", type=click.IntRange(0, 65535), help=f"Default {API_PORT}; any free one with --port 0.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Keep data and keys here.")
@click.option("--project-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Holds supabase/.")
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep URLs and keys in this file meanwhile; as .env, other commands read it.",
)
@click.option("--faults", is_flag=True, help="Open a socket with fault switches, for tests.")
@click.option(
    "--debounce",
    type=FiniteFloat(0, 3600),
    default=2.0,
    show_default=True,
    help="Seconds of quiet before the bridge sends a change, unless a listener asks for another; 0: at once.",
)
def up(  # noqa: PLR0913, PLR0917 - one for each option
    demo: bool,
    speed: float,
    port: int,
    bridge_port: int | None,
    api_port: int | None,
    data_dir: Path | None,
    project_dir: Path | None,
    env_file: Path | None,
    faults: bool,
    debounce: float,
) -> None:
    """Start a local Supabase, the bridge and the REST API, print READY with URLs and keys, and run until Ctrl-C.

    The line READY holds a JSON object with SUPABASE_URL, the keys, DATABASE_URL, BRIDGE_URL, API_URL and
    DASHBOARD_URL, a link that opens the dashboard for an operator on this machine and is good for half a day.
    """
    check_speed(speed)
    if bridge_port is None:
        bridge_port = BRIDGE_PORT if port else 0
    if api_port is None:
        api_port = API_PORT if port else 0
    options = Options(port, bridge_port, api_port, data_dir, project_dir, env_file, faults, debounce, demo, speed)
    _check(options)
    with extra("all"):
        import streak_client.rest.serving  # noqa: F401, PLC0415 - miss it now rather than after the start
        from local_supabase.errors import LocalSupabaseError  # noqa: PLC0415 - only this command needs it
        from realtime_bridge.server import ServerStoppedError  # noqa: PLC0415
    try:
        asyncio.run(_until_signal(options))
    except (LocalSupabaseError, ServerStoppedError, OSError) as error:
        raise CommandError(str(error)) from error


def _check(options: Options) -> None:
    """Find now what would end the command after a start of many seconds."""
    if options.env_file is not None:
        check_env_file(options.env_file)
    ports = {"--port": options.port, "--bridge-port": options.bridge_port, "--api-port": options.api_port}
    for name, port in ports.items():
        try:
            # Port 0 always succeeds. SO_REUSEADDR is set, as the servers set it.
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise CommandError(f"Port {port} cannot be used ({error.strerror}); choose with {name}.") from error


async def _until_signal(options: Options) -> None:
    with extra("all"):
        from local_supabase.progress import Progress  # noqa: PLC0415
        from local_supabase.stack import LocalSupabase, StackConfig  # noqa: PLC0415
    progress = Progress()
    config = StackConfig(options.port, options.data_dir, options.faults, options.project_dir)
    stack = LocalSupabase(config, progress.say)
    running = asyncio.ensure_future(_serve(stack, progress, options))
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            running.cancel()
        else:
            stack.hurry()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    try:
        await running
    except asyncio.CancelledError:
        if not signals:
            raise


async def _serve(stack: LocalSupabase, progress: Progress, options: Options) -> None:
    from realtime_bridge import BridgeSettings, serve  # noqa: PLC0415
    from realtime_bridge.links import operator_link  # noqa: PLC0415

    async with AsyncExitStack() as exits:
        with progress:
            await exits.enter_async_context(stack)
            progress.say("Starting the bridge")
            settings = BridgeSettings(
                supabase_url=stack.info.supabase_url,
                supabase_secret_key=SecretStr(stack.info.secret_key),
                supabase_jwt_secret=SecretStr(stack.info.jwt_secret),
                supabase_publishable_key=stack.info.publishable_key,
                port=options.bridge_port,
                debounce=options.debounce,
                max_wait=max(LONGEST_WAIT, options.debounce),
            )
            try:
                served = await exits.enter_async_context(serve(settings))
            except OSError as error:
                reason = (
                    f"The bridge cannot use port {options.bridge_port} ({error.strerror}); choose with --bridge-port."
                )
                raise CommandError(reason) from error
            await served.bridge.wait_live(LIVE_SECONDS)
            api = await _serve_api(exits, stack.info, options.api_port)
        variables = stack.info.environment() | {
            "BRIDGE_URL": served.url,
            "API_URL": api.url,
            "DASHBOARD_URL": operator_link(served.url, settings),
        }
        if options.env_file is not None:
            exits.enter_context(env_file(options.env_file, variables))
        click.echo(f"READY {json.dumps(variables)}")
        messages().print(f"Dashboard: {variables['DASHBOARD_URL']}", soft_wrap=True, markup=False)
        messages().print(f"Changes: {served.url}/events   REST API: {api.url}/docs   Ctrl-C ends everything.")
        messages().print(_elsewhere(variables, options.env_file), soft_wrap=True, markup=False)
        jobs: list[Coroutine[Any, Any, None]] = [stack.wait(), served.wait(), api.wait()]
        if options.demo:
            jobs.append(run_demo(stack.info, served, options.speed))
        await _all(jobs)


def _elsewhere(variables: Mapping[str, str], file: Path | None) -> str:
    """Say how other commands find this service; the keys stay in READY's line and in the file."""
    if file is not None:
        return f"In another terminal: cd {shlex.quote(str(file.absolute().parent))} && streaks watch" + (
            "" if file.name == ".env" else f"   ({file.name} must be loaded there: only .env is read by itself)"
        )
    exports = " ".join(f"{name}={shlex.quote(variables[name])}" for name in ("SUPABASE_URL", "BRIDGE_URL", "API_URL"))
    return (
        f"In another terminal: export {exports}\nand SUPABASE_SECRET_KEY (and DATABASE_URL, for streaks replay "
        "--create-users) from the line READY; or start with --env-file .env, which the other commands read."
    )


async def _serve_api(exits: AsyncExitStack, info: StackInfo, port: int) -> ServedApi:
    from streak_client.rest.serving import rest_app, serve_app  # noqa: PLC0415 - only this command needs it

    settings = Settings(info.supabase_url, info.secret_key)
    app = await exits.enter_async_context(rest_app(settings, jwt_secret=info.jwt_secret))
    try:
        return await exits.enter_async_context(serve_app(app, "127.0.0.1", port))
    except OSError as error:
        reason = f"The REST API cannot use port {port} ({error.strerror}); choose with --api-port."
        raise CommandError(reason) from error


async def _all(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
