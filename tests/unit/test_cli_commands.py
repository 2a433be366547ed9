"""The commands that wrap one call of the client."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import respx
from click.testing import CliRunner, Result

from streak_client import CalendarDay, ConnectionFailedError, DayKind, InvalidInputError, Outbox
from streak_client._batch import Prepared
from streak_client._blame import Answer
from streak_client.cli import main
from streak_client.cli.reads import heat_map

URL = "http://streaks.test"
USER = UUID("f8e1edd8-731e-52c8-92cb-a3f4b05e31a7")
UPDATE: dict[str, Any] = {
    "success": True,
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-22",
    "change_type": "STREAK_INCREMENT",
    "message": "Streak of 3 days.",
    "timezone": "Europe/Paris",
    "version": 7,
    "expires_at": "2026-11-23T23:00:00+00:00",
    "replayed": False,
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each command finds a service in its environment, and no `.env`."""
    monkeypatch.setenv("SUPABASE_URL", URL)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_unit")
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments)


def answer(function: str, *rows: dict[str, Any]) -> respx.Route:
    """Answer a database function."""
    return respx.post(f"{URL}/rest/v1/rpc/{function}").respond(json=list(rows))


@respx.mock
def test_update_counts_one_activity() -> None:
    """`update` sends zone, time and request id, and prints the answer for people or programs."""
    route = answer("update_user_streak_atomic", UPDATE)
    at = datetime.now(UTC) - timedelta(hours=1)
    result = run("update", str(USER), "--timezone", "Europe/Paris", "--at", at.isoformat(), "--request-id", "r")
    assert result.exit_code == 0, result.output
    assert "Streak of 3 days." in result.stdout
    assert "current 3, longest 5 [STREAK_INCREMENT]" in result.stdout
    assert json.loads(route.calls.last.request.content) == {
        "p_user_id": str(USER),
        "p_timezone": "Europe/Paris",
        "p_request_id": "r",
        "p_activity_at": at.isoformat(),
    }
    assert json.loads(run("update", str(USER), "--json").stdout)["version"] == 7


@respx.mock
def test_recover_repairs_days() -> None:
    """`recover` sends the range and the reason; without --to it is one day."""
    route = answer("recover_user_streak", UPDATE)
    assert run("recover", str(USER), "--from", "2026-11-20", "--reason", "ill").exit_code == 0
    body = json.loads(route.calls.last.request.content)
    assert (body["p_from"], body["p_to"], body["p_reason"]) == ("2026-11-20", "2026-11-20", "ill")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("update", str(USER), "--at", "yesterday"), "no instant"),
        (("update", str(USER), "--at", "2026-11-22T09:00"), "no offset"),
        (("recover", str(USER), "--from", "soon", "--reason", "x"), "no day"),
        (("recover", str(USER), "--from", "2026-11-20"), "--reason"),
        (("leaderboard", "--limit", "0"), "--limit"),
        (("calendar", str(USER), "--from", "2026-02-01", "--to", "2026-01-01"), "last_day"),
    ],
)
@respx.mock
def test_wrong_arguments_are_named_and_nothing_is_sent(arguments: tuple[str, ...], message: str) -> None:
    """A wrong option is status 2 with its name."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not respx.calls


@respx.mock
def test_leaderboard_prints_places() -> None:
    """`leaderboard` asks for the order wanted and prints each place."""
    entry = {
        "rank": 1,
        "user_id": str(USER),
        "current_streak": 3,
        "longest_streak": 13,
        "last_active_date": "2026-11-22",
        "is_active_today": True,
    }
    route = answer("get_streak_leaderboard", entry)
    assert "13" in run("leaderboard", "--longest").stdout
    assert json.loads(route.calls.last.request.content)["p_order_by"] == "longest_streak"
    assert json.loads(run("leaderboard", "--json").stdout)["user_id"] == str(USER)


@respx.mock
def test_history_says_why() -> None:
    """`history` shows what changed, in which zone and for which reason."""
    entry = {
        "id": 1,
        "user_id": str(USER),
        "change_type": "STREAK_RECOVERED",
        "activity_date": "2026-11-20",
        "last_active_date": "2026-11-22",
        "old_current_streak": 1,
        "new_current_streak": 3,
        "old_longest_streak": 1,
        "new_longest_streak": 3,
        "timezone": "UTC",
        "version_before": 6,
        "version_after": 7,
        "request_id": None,
        "reason": "ill",
        "created_at": "2026-11-22 09:46:48.715809+00",
    }
    respx.get(f"{URL}/rest/v1/streak_history").respond(json=[entry])
    assert json.loads(run("history", str(USER), "--json").stdout)["reason"] == "ill"
    assert "STREA" in run("history", str(USER)).stdout


@respx.mock
def test_calendar_asks_for_a_year_and_prints_days() -> None:
    """`calendar` reads the year up to --to, and prints a map or JSON."""
    route = answer(
        "get_streak_calendar", {"day": "2026-11-20", "kind": "active", "activity_at": None, "timezone": "UTC"}
    )
    assert "1 days" in run("calendar", str(USER), "--to", "2026-11-22").stdout
    body = json.loads(route.calls.last.request.content)
    assert (body["p_from"], body["p_to"]) == ("2025-11-22", "2026-11-22")
    assert json.loads(run("calendar", str(USER), "--json").stdout)["day"] == "2026-11-20"


@pytest.mark.parametrize(
    ("last", "first"), [("0001-02-01", "0001-01-01"), ("0001-01-01", "0001-01-01"), ("9999-12-31", "9998-12-31")]
)
@respx.mock
def test_the_calendar_ends_where_dates_end(last: str, first: str) -> None:
    """At the first and the last days that there are, `calendar` shows what there is of a year."""
    route = answer("get_streak_calendar", {"day": last, "kind": "active", "activity_at": None, "timezone": "UTC"})
    result = run("calendar", str(USER), "--to", last)
    assert (result.exit_code, result.exception) == (0, None)
    assert "1 days" in result.stdout
    body = json.loads(route.calls.last.request.content)
    assert (body["p_from"], body["p_to"]) == (first, last)


def test_the_heat_map_puts_each_day_into_its_row_and_column() -> None:
    """Rows are weekdays from Monday, columns weeks; days outside the range stay blank, skipped days do not count."""
    kinds = {
        date(2026, 11, 16): DayKind.ACTIVE,
        date(2026, 11, 24): DayKind.REPAIRED,
        date(2026, 11, 18): DayKind.SKIPPED,
    }
    days = {day: CalendarDay(day=day, kind=kind, activity_at=None, timezone="UTC") for day, kind in kinds.items()}
    lines = heat_map(days, date(2026, 11, 16), date(2026, 11, 25)).plain.splitlines()
    assert [line[4:].rstrip() for line in lines[1:8]] == ["■ ·", "· ■", "■ ·", "·", "·", "·", "·"]
    assert lines[1].startswith("Mon")
    assert lines[9].startswith("2 days")


@respx.mock
def test_import_reads_a_file_and_reports(tmp_path: Path) -> None:
    """`import` enters a file whatever its age, and ends with status 1 when somebody was refused."""
    path = tmp_path / "a.csv"
    path.write_text(f"user_id,occurred_at,timezone\n{USER},2020-01-01T00:00:00Z,UTC\n")
    row = {"user_id": str(USER), "current_streak": 0, "longest_streak": 1, "last_active_date": "2020-01-01"}
    answer("import_user_activity", {**row, "error": None, "days_added": 1})
    result = run("import", str(path))
    assert (result.exit_code, "1 activities: 1 days added for 1 people." in result.stdout) == (0, True)
    answer("import_user_activity", {**row, "error": "USER_NOT_FOUND", "days_added": None})
    told = json.loads(run("import", str(path), "--json").stdout)
    assert told == {"events": 1, "users": 0, "days_added": 0, "refused": {str(USER): told["refused"][str(USER)]}}
    assert told["refused"][str(USER)]["code"] == "USER_NOT_FOUND"
    refused = run("import", str(path))
    assert refused.exit_code == 1
    assert str(USER) in refused.stderr


@respx.mock
def test_outbox_shows_what_waits_and_drains_it(tmp_path: Path) -> None:
    """`outbox` lists what waits with the last error; --drain sends it, and fails if something is left."""
    path = tmp_path / "outbox.db"
    box, now = Outbox(path), datetime.now(UTC)
    box.put(Prepared(USER, now, "UTC", "r"), ConnectionFailedError("gone"), now)
    box.close()
    shown = run("outbox", str(path))
    assert (shown.exit_code, "1 waiting." in shown.stdout) == (0, True)
    (told,) = map(json.loads, run("outbox", str(path), "--json").stdout.splitlines())
    assert (told["user_id"], told["request_id"], told["error"]) == (str(USER), "r", "CONNECTION_FAILED: gone")
    assert datetime.fromisoformat(told["activity_at"]) == now
    assert run("outbox", str(path), "--json", "--refused").stdout == ""
    respx.post(f"{URL}/rest/v1/rpc/update_user_streaks_batch").respond(401, json={"message": "no"})
    stuck = run("outbox", str(path), "--drain")
    assert (stuck.exit_code, "1 waiting." in stuck.stdout) == (1, True)
    answer("update_user_streaks_batch", UPDATE)
    drained = run("outbox", str(path), "--drain")
    assert (drained.exit_code, "0 waiting." in drained.stdout) == (0, True)


@respx.mock
def test_outbox_sends_what_was_refused_once_more(tmp_path: Path) -> None:
    """`outbox --retry-refused` lets refused entries wait again, and sends them with --drain."""
    path, now = tmp_path / "outbox.db", datetime.now(UTC)
    box = Outbox(path)
    box.put(Prepared(USER, now, "UTC", "r"), ConnectionFailedError("gone"), now)
    with box.draining():
        box.settle({entry.id: Answer(InvalidInputError("no"), own=True) for entry in box.entries()})
    box.close()
    again = run("outbox", str(path), "--retry-refused", "--json")
    assert "1 refused activities wait again." in again.stderr
    assert [json.loads(line)["request_id"] for line in again.stdout.splitlines()] == ["r"]
    answer("update_user_streaks_batch", UPDATE)
    drained = run("outbox", str(path), "--retry-refused", "--drain")
    assert (drained.exit_code, "0 waiting." in drained.stdout) == (0, True)


def test_an_outbox_that_cannot_be_reached_is_a_clear_error(tmp_path: Path) -> None:
    """A Redis that is down is status 1, a missing file or a malformed URL 2, and no password is shown."""
    url = "redis://:hunter2@127.0.0.1:9/0"
    down, missing = run("outbox", url), run("outbox", str(tmp_path / "none.db"))
    wrong = run("outbox", "redis://:hunter2@127.0.0.1:port/0")
    assert [result.exit_code for result in (down, missing, wrong)] == [1, 2, 2]
    assert "The outbox cannot be reached" in down.stderr
    assert "hunter2" not in down.output + wrong.output + down.stderr + wrong.stderr
