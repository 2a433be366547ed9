"""The command behind `python -m local_supabase`: a local Supabase until Ctrl-C."""

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click

from local_supabase.errors import LocalSupabaseError
from local_supabase.progress import Progress
from local_supabase.stack import LocalSupabase, StackConfig


@click.command()
@click.option(
    "--port",
    default=54321,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port on 127.0.0.1; 0 picks a free one.",
)
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Keeps the data (and the keys) here."
)
@click.option(
    "--project-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that holds supabase/."
)
@click.option("--faults", is_flag=True, help="Opens a socket with fault switches, for tests.")
def main(port: int, data_dir: Path | None, project_dir: Path | None, faults: bool) -> None:  # noqa: FBT001 - a flag of a command
    """Start PostgreSQL, REST, Auth and Realtime on loopback, apply the migrations, and print READY with the keys."""
    try:
        asyncio.run(_run(StackConfig(port, data_dir, faults, project_dir)))
    except LocalSupabaseError as error:
        click.echo(f"local_supabase: {error}", err=True)
        sys.exit(1)


async def _run(config: StackConfig) -> None:
    progress = Progress()
    stack = LocalSupabase(config, progress.say)
    running = asyncio.ensure_future(_serve(stack, progress))
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            running.cancel()
        else:
            stack.hurry()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        await running
    except asyncio.CancelledError:
        if not signals:
            raise


async def _serve(stack: LocalSupabase, progress: Progress) -> None:
    async with AsyncExitStack() as exits:
        with progress:
            await exits.enter_async_context(stack)
        print(f"READY {json.dumps(stack.info.environment())}", flush=True)  # noqa: T201 - the one line on standard output
        await stack.wait()
