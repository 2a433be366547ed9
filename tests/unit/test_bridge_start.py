from __future__ import annotations

import subprocess
import sys

import pytest

import realtime_bridge


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("library", ["realtime", "starlette", "uvicorn", "websockets", "prometheus_client", "jwt"])
def test_without_its_extra_the_command_says_what_to_install(library: str) -> None:
    """`python -m realtime_bridge` without a library it needs names the install command, and shows no traceback."""
    program = (
        f"import sys; sys.modules[{library!r}] = None; import runpy; "
        "runpy.run_module('realtime_bridge', run_name='__main__', alter_sys=True)"
    )
    done = run(program)
    assert done.returncode == 2
    assert done.stderr == f'realtime_bridge: this needs {library}: pip install "supabase-streaks[bridge]"\n'


def test_every_name_of_the_package_is_there() -> None:
    """Each exported name can be imported and is listed by dir(); a name that is none is an AttributeError."""
    for name in realtime_bridge.__all__:
        assert getattr(realtime_bridge, name).__name__ == name
    assert set(realtime_bridge.__all__) <= set(dir(realtime_bridge))
    with pytest.raises(AttributeError, match="no attribute 'Brigde'"):
        _ = realtime_bridge.Brigde
