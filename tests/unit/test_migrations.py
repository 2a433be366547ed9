"""`streaks migrations`: the SQL goes into a project whole, and nothing of the user's is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streak_client import _migrations
from streak_client.cli import main

OURS = sorted((Path(__file__).parents[2] / "supabase" / "migrations").glob("*.sql"))


def run(*arguments: str) -> Result:
    """Run `streaks migrations`."""
    return CliRunner().invoke(main, ["migrations", *arguments])


def copy(target: Path, *options: str) -> dict[str, str]:
    """Copy, and return what became of each file."""
    result = run("copy", str(target), "--json", *options)
    assert result.exit_code == 0, result.output
    return {each["file"]: each["status"] for each in map(json.loads, result.stdout.splitlines())}


def test_list_names_every_migration() -> None:
    """The list holds each migration of the release with its version, in the order in which they are applied."""
    listed = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [f"{each['version']}_{each['name']}.sql" for each in listed] == [path.name for path in OURS]
    assert all(each["version"] in run("list").stdout for each in listed)


def test_copy_says_what_is_new(tmp_path: Path) -> None:
    """A first copy brings everything and config.toml, a second one nothing, and a lost file comes back."""
    target = tmp_path / "supabase"
    names = [f"migrations/{path.name}" for path in OURS]
    assert copy(target) == dict.fromkeys([*names, "config.toml"], "new")
    assert [path.read_bytes() for path in OURS] == [(target / name).read_bytes() for name in names]
    assert copy(target) == dict.fromkeys(names, "unchanged")
    (target / names[-1]).unlink()
    assert copy(target) == dict.fromkeys(names[:-1], "unchanged") | {names[-1]: "new"}


def test_a_changed_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    """A file that differs stops the copy before anything is written; --force replaces it and nothing else."""
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    (changed := migrations / OURS[1].name).write_text("-- of our own\n")
    (config := tmp_path / "config.toml").write_text('project_id = "ours"\n')
    (mine := migrations / "20200101000000_mine.sql").write_text("select 1;\n")
    refused = run("copy", str(tmp_path))
    assert refused.exit_code == 2
    assert OURS[1].name in refused.output
    assert {path.name for path in migrations.iterdir()} == {changed.name, mine.name}
    assert copy(tmp_path, "--force")[f"migrations/{changed.name}"] == "replaced"
    assert changed.read_bytes() == OURS[1].read_bytes()
    assert (config.read_text(), mine.read_text()) == ('project_id = "ours"\n', "select 1;\n")


def test_line_ends_make_no_difference(tmp_path: Path) -> None:
    """A file whose line ends git has changed counts as the same."""
    copy(tmp_path)
    for path in (tmp_path / "migrations").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert set(copy(tmp_path).values()) == {"unchanged"}


def test_a_version_that_is_taken_is_refused(tmp_path: Path) -> None:
    """Another migration with the version of one of ours stops the copy, --force or not: the CLI would skip one."""
    version = OURS[0].name.partition("_")[0]
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / f"{version}_mine.sql").touch()
    for options in ([], ["--force"]):
        refused = run("copy", str(tmp_path), *options)
        assert refused.exit_code == 2
        assert f"{version}_mine.sql" in refused.output
    assert len(list((tmp_path / "migrations").iterdir())) == 1


def test_later_migrations_of_the_users_need_include_all(tmp_path: Path) -> None:
    """The hint says how to push where the CLI would refuse files that are older than what it has applied."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "20991231000000_mine.sql").touch()
    assert "--include-all" in run("copy", str(tmp_path)).stderr
    assert "--include-all" not in run("copy", str(tmp_path)).stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full or read-only disk ends the copy with the file's name, and no half file is left."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "the file")

    monkeypatch.setattr(Path, "replace", full)
    refused = run("copy", str(tmp_path))
    assert (refused.exit_code, "No space left" in refused.output) == (2, True)
    assert list((tmp_path / "migrations").iterdir()) == []


def test_out_of_order_looks_at_new_files_alone(tmp_path: Path) -> None:
    """Where nothing is new there is nothing to push, whatever else is in the folder."""
    copied = _migrations.copy(tmp_path)
    (tmp_path / "migrations" / "20991231000000_mine.sql").touch()
    assert _migrations.out_of_order(tmp_path, copied)
    assert not _migrations.out_of_order(tmp_path, _migrations.copy(tmp_path))
