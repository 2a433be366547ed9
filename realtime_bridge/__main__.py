"""``python -m realtime_bridge``: the bridge as a process of its own, or how to install what it needs."""

import sys

_WRONG_USE = 2

try:
    from realtime_bridge.command import main
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    sys.stderr.write(f'realtime_bridge: this needs {missing}: pip install "supabase-streaks[bridge]"\n')
    sys.exit(_WRONG_USE)

if __name__ == "__main__":
    sys.exit(main())
