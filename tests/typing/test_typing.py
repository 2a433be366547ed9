"""The published types, checked by mypy as a user's project would."""

from pathlib import Path

from mypy import api

HERE = Path(__file__).parent


def test_the_types_are_what_users_were_promised() -> None:
    """Strict mypy agrees with every `assert_type` and every expected mistake."""
    config = HERE.parent.parent / "pyproject.toml"
    report, errors, status = api.run(["--strict", f"--config-file={config}", str(HERE / "check_client.py")])
    assert (status, errors) == (0, ""), report
