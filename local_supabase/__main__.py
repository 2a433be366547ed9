"""`python -m local_supabase`: the command, or how to install what it needs."""

import sys

_WRONG_USE = 2

try:
    from local_supabase.command import main
except ModuleNotFoundError as error:
    sys.stderr.write(f'local_supabase: this needs {error.name}: pip install "supabase-streaks[all]"\n')
    sys.exit(_WRONG_USE)

if __name__ == "__main__":
    main(prog_name="python -m local_supabase")
