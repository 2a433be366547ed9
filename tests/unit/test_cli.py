"""The `streaks` command, as far as it needs no service."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import respx
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from streak_client import Activity, ConnectionFailedError, Outbox
from streak_client._batch import Prepared
from streak_client.cli import main
from streak_client.cli._activity_file import demo_file, instant, move_to_present, read_activity, split_by_age
from streak_client.cli._common import CommandError
from streak_client.cli._listeners import Ears
from streak_client.cli.watch import describe
from streak_client.settings import KEY_NAMES

URL = "http://streaks.test"
USER = UUID("f8e1edd8-731e-52c8-92cb-a3f4b05e31a7")
OTHER = UUID("9e3894c3-731e-52c8-92cb-a3f4b05e31a7")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STREAK = {
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-21",
    "timezone": "Europe/Paris",
    "is_active_today": False,
    "days_since_activity": 1,
    "expires_at": "2026-11-22T23:00:00+00:00",
    "version": 7,
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each command finds a service in its environment, and no `.env`."""
    for name in (*KEY_NAMES, "DATABASE_URL", "BRIDGE_URL", "STREAKS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUPABASE_URL", URL)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_unit")
    monkeypatch.chdir(tmp_path)


UPDATE = {**STREAK, "success": True, "change_type": "STREAK_MAINTAINED", "message": "", "replayed": False}


def play_rest(answer: Callable[[str, str], dict[str, object]]) -> None:
    """Answer updates, alone or in batches, with what a function says for a user id and a time."""

    def single(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        row = answer(body["p_user_id"], body["p_activity_at"])
        error = {"code": "23503", "message": "User not found", "details": row.get("error")}
        return httpx.Response(409, json=error) if "error" in row else httpx.Response(200, json=[row])

    def batch(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        pairs = zip(body["p_user_ids"], body["p_activity_ats"], strict=True)
        return httpx.Response(200, json=[answer(*pair) for pair in pairs])

    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").mock(side_effect=single)
    respx.post(f"{URL}/rest/v1/rpc/update_user_streaks_batch").mock(side_effect=batch)


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments)


def activity_file(tmp_path: Path, *lines: str, header: str = "user_id,occurred_at,timezone") -> Path:
    """Write a file of activity."""
    path = tmp_path / "activity.csv"
    path.write_text("\n".join([header, *lines, ""]))
    return path


@respx.mock
def test_show_prints_a_streak_for_people_and_for_programs() -> None:
    """`show` prints a table, or with --json one JSON object."""
    respx.post(f"{URL}/rest/v1/rpc/get_user_streak").respond(json=[STREAK])
    shown = run("show", str(USER))
    assert shown.exit_code == 0
    assert all(text in shown.stdout for text in (str(USER), "3 days", "yesterday", "Europe/Paris"))
    assert json.loads(run("show", str(USER), "--json").stdout)["version"] == 7


@respx.mock
def test_a_failed_service_is_status_1_and_wrong_input_is_status_2() -> None:
    """Errors are one message with their code and a status that says whose they are, never a traceback."""
    respx.post(f"{URL}/rest/v1/rpc/get_user_streak").mock(side_effect=httpx.ConnectError("refused"))
    failed, wrong = run("show", str(USER)), run("show", "nobody")
    assert (failed.exit_code, wrong.exit_code) == (1, 2)
    assert "CONNECTION_FAILED" in failed.stderr
    assert "user_id is not a UUID [INVALID_INPUT]" in wrong.stderr
    assert "Traceback" not in failed.stderr + wrong.stderr


@pytest.mark.parametrize("columns", ["80", "40"])
@respx.mock
def test_ids_are_never_split(columns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the terminal is, a user's id stays in one piece in every command's output."""
    monkeypatch.setenv("COLUMNS", columns)
    entry = {**STREAK, "user_id": str(USER), "rank": 1}
    respx.post(f"{URL}/rest/v1/rpc/get_user_streak").respond(json=[STREAK])
    respx.post(f"{URL}/rest/v1/rpc/get_streak_leaderboard").respond(json=[entry])
    box = Outbox(tmp_path / "outbox.db")
    box.put(Prepared(USER, NOW, "UTC", "r"), ConnectionFailedError("gone"), NOW)
    box.close()
    for arguments in (("show", str(USER)), ("leaderboard",), ("outbox", str(tmp_path / "outbox.db"))):
        assert str(USER) in run(*arguments).stdout, arguments
    if columns == "80":
        assert "2026-11-21" in run("leaderboard").stdout


@respx.mock
def test_watch_prints_a_change_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is one line with its id whole, also where a line has 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    change = {"type": "change", "user_id": str(USER), "event": "incremented", "streak": STREAK}
    stream = httpx.Response(200, text=f"data: {json.dumps(change)}\n\n", headers={"content-type": "text/event-stream"})
    respx.get("http://bridge.test/events").mock(side_effect=[stream, httpx.Response(401)])
    (line,) = run("watch", "--bridge-url", "http://bridge.test").stdout.splitlines()
    assert str(USER) in line
    assert line.endswith("longest   5")


@pytest.mark.parametrize("address", ["foo", "ftp://x", "http://", "http://me:hunter2@x"])
def test_a_bridge_that_is_no_url_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`watch` ends with status 2 and the name of what is wrong, and does not repeat its value."""
    monkeypatch.setenv("BRIDGE_URL", address)
    result = run("watch")
    assert result.exit_code == 2
    assert "BRIDGE_URL must" in result.stderr
    assert "hunter2" not in result.stderr
    assert "--bridge-url must" in run("watch", "--bridge-url", address).stderr


@respx.mock
def test_watch_without_a_bridge_says_once_what_starts_one() -> None:
    """The first failure to connect names `streaks up`; the next ones are short."""
    answers: list[httpx.Response | Exception] = [
        httpx.ConnectError("refused"),
        httpx.ConnectError("refused"),
        httpx.Response(401),
    ]
    respx.get("http://bridge.test/events").mock(side_effect=answers)
    first, second, _ = run("watch", "--bridge-url", "http://bridge.test").stderr.splitlines()
    assert "streaks up" in first
    assert "BRIDGE_URL" in first
    assert "streaks up" not in second


@respx.mock
def test_watch_takes_a_users_token_and_needs_no_supabase_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """STREAKS_TOKEN goes to the bridge instead of the secret key, and no other setting is asked for."""
    monkeypatch.delenv("SUPABASE_URL")
    route = respx.get("http://bridge.test/events").respond(401)
    assert "refuses (401)" in run("watch", "--bridge-url", "http://bridge.test").stderr
    assert route.calls.last.request.headers["authorization"] == "Bearer sb_secret_unit"
    monkeypatch.delenv("SUPABASE_SECRET_KEY")
    monkeypatch.setenv("STREAKS_TOKEN", "eyJ.a.b")
    run("watch", "--bridge-url", "http://bridge.test")
    assert route.calls.last.request.headers["authorization"] == "Bearer eyJ.a.b"
    monkeypatch.setenv("STREAKS_TOKEN", "eyJ a")
    broken = run("watch", "--bridge-url", "http://bridge.test")
    assert (broken.exit_code, "STREAKS_TOKEN" in broken.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [("show", str(USER)), ("watch",)])
def test_missing_settings_are_named(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command without a key says which variable to set."""
    monkeypatch.delenv("SUPABASE_SECRET_KEY")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "SUPABASE_SECRET_KEY" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("replay", "missing.csv"), "does not exist"),
        (("up", "--speed", "0.5"), "at least 1"),
        (("up", "--speed", "-1"), "--speed"),
        (("replay", __file__, "--speed", "nan"), "--speed"),
        (("watch", "--debounce", "nan"), "--debounce"),
        (("watch", "--max-wait", "inf"), "--max-wait"),
        (("up", "--port", "70000"), "--port"),
        (("watch", "nobody"), "USER[0] is not a UUID"),
        (("watch", "--debounce", "-1"), "--debounce"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...], message: str) -> None:
    """What is wrong on the command line is named, with status 2, before anything starts."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nobody,2026-01-01T00:00:00Z,UTC", "line 3: user_id is not a UUID"),
        (",2026-01-01T00:00:00Z,UTC", "line 3: user_id is required"),
        (f"{USER},yesterday,UTC", "line 3: occurred_at is no ISO 8601 instant"),
        (f"{USER},2026-01-01T00:00:00,UTC", "line 3: occurred_at must be an aware datetime"),
        (f"{USER},2999-01-01T00:00:00Z,UTC", "line 3: occurred_at is more than 5 minutes in the future"),
        (f"{USER}", "line 3: occurred_at is no ISO 8601 instant"),
    ],
)
@respx.mock
def test_a_wrong_line_of_a_file_is_named_and_nothing_is_sent(line: str, message: str, tmp_path: Path) -> None:
    """A file is checked whole before its first activity is counted."""
    result = run("replay", str(activity_file(tmp_path, f"{USER},2026-01-01T00:00:00Z,UTC", line)))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not respx.calls


def test_a_file_without_its_columns_or_of_bytes_is_refused(tmp_path: Path) -> None:
    """A file that is no activity is refused with the reason."""
    path = activity_file(tmp_path, header="user,time")
    with pytest.raises(CommandError, match="user_id, occurred_at is missing"):
        read_activity(path, NOW)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandError, match="cannot be read"):
        read_activity(path, NOW)


def test_a_file_is_read_in_order_of_time_with_bom_and_without_zones(tmp_path: Path) -> None:
    """A file from a spreadsheet, unsorted and without zones, is read whole and sorted."""
    path = tmp_path / "activity.csv"
    lines = ["user_id,occurred_at", f"{USER},2026-01-02T00:00:00+02:00", f"{OTHER},2026-01-01T00:00:00Z"]
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert read_activity(path, NOW) == [
        Activity(OTHER, datetime(2026, 1, 1, tzinfo=UTC)),
        Activity(USER, datetime(2026, 1, 1, 22, tzinfo=UTC)),
    ]


def test_the_demo_has_its_file() -> None:
    """The demo finds all of its 6,069 activities."""
    assert len(read_activity(demo_file(), NOW)) == 6_069


@given(st.lists(st.tuples(st.sampled_from([USER, OTHER]), st.integers(0, 400 * 86_400)), min_size=1))
def test_histories_move_by_the_most_whole_days(events: list[tuple[UUID, int]]) -> None:
    """Each person's last activity ends up within the last 24 hours, and all of theirs move by the same whole days."""
    given_activities = [Activity(user, NOW - timedelta(seconds=ago)) for user, ago in events]
    moved = move_to_present(given_activities, NOW)
    assert [instant(activity) for activity in moved] == sorted(instant(activity) for activity in moved)
    for user in {user for user, _ in events}:
        before = sorted(instant(activity) for activity in given_activities if activity.user_id == user)
        after = [instant(activity) for activity in moved if activity.user_id == user]
        shifts = {later - earlier for earlier, later in zip(before, after, strict=True)}
        assert len(shifts) == 1
        assert shifts.pop() % timedelta(days=1) == timedelta()
        assert timedelta() <= NOW - after[-1] < timedelta(days=1)


def test_what_is_older_than_six_days_is_imported() -> None:
    """Six days to the second are live, anything older goes through the import."""
    edge = NOW - timedelta(days=6)
    activities = [Activity(USER, edge - timedelta(seconds=1)), Activity(USER, edge), Activity(USER, NOW)]
    assert split_by_age(activities, NOW) == (activities[:1], activities[1:])


def _recent_file(tmp_path: Path, users: list[UUID]) -> Path:
    now = datetime.now(UTC)
    lines = [f"{user},{(now - timedelta(minutes=60 - n)).isoformat()},UTC" for n, user in enumerate(users)]
    return activity_file(tmp_path, *lines)


@respx.mock
def test_a_replay_keeps_each_persons_order(tmp_path: Path) -> None:
    """Activities of one person arrive in the order in which they happened, however many are played at once."""
    seen: dict[str, list[str]] = {}

    def note(user: str, at: str) -> dict[str, object]:
        seen.setdefault(user, []).append(at)
        return UPDATE

    play_rest(note)
    result = run("replay", str(_recent_file(tmp_path, [USER, OTHER] * 20)))
    assert result.exit_code == 0, result.output
    assert "40 activities of 2 people: 0 imported, 40 played live." in result.stdout
    assert all(len(times) == 20 and times == sorted(times) for times in seen.values())


@respx.mock
def test_a_replay_counts_the_others_when_a_user_is_unknown(tmp_path: Path) -> None:
    """One unknown user costs nobody else anything, and is named at the end with status 2."""
    play_rest(lambda user, _: {"error": "USER_NOT_FOUND"} if user == str(OTHER) else UPDATE)
    result = run("replay", str(_recent_file(tmp_path, [USER, OTHER, USER])))
    assert result.exit_code == 2
    assert "0 imported, 2 played live" in result.stdout
    assert f"{OTHER}: p_user_id: there is no such user [USER_NOT_FOUND]" in result.stderr


@respx.mock
def test_a_replay_imports_nothing_for_a_refused_user_and_says_what_to_do(tmp_path: Path) -> None:
    """Old activities of unknown users do not count as imported, and the remedy is named."""
    row = {"current_streak": 0, "longest_streak": 1, "last_active_date": "2020-01-01"}
    rows = [
        {**row, "user_id": str(USER), "error": None, "days_added": 1},
        {**row, "user_id": str(OTHER), "error": "USER_NOT_FOUND", "days_added": None},
    ]
    respx.post(f"{URL}/rest/v1/rpc/import_user_activity").respond(json=rows)
    users = [str(USER), str(OTHER).upper(), str(OTHER)]
    path = activity_file(tmp_path, *(f"{user},2020-01-01T00:00:00Z,UTC" for user in users))
    result = run("replay", str(path))
    assert result.exit_code == 2
    assert "3 activities of 2 people: 1 imported, 0 played live." in result.stdout
    assert "--create-users" in result.stderr
    assert "DATABASE_URL" in result.stderr


@respx.mock
def test_a_replay_stops_when_the_service_fails(tmp_path: Path) -> None:
    """A fault of the service ends the replay with status 1 instead of failing every further activity."""
    route = respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").respond(
        403, json={"code": "42501", "message": "no"}
    )
    result = run("replay", str(_recent_file(tmp_path, [USER] * 50)))
    assert result.exit_code == 1
    assert "PERMISSION_DENIED" in result.stderr
    assert route.call_count == 1


def test_create_users_needs_a_database(tmp_path: Path) -> None:
    """--create-users without DATABASE_URL says so; with a wrong one it does not repeat it."""
    path = str(activity_file(tmp_path, f"{USER},2026-01-01T00:00:00Z,UTC"))
    without = run("replay", path, "--create-users")
    assert without.exit_code == 2
    assert "DATABASE_URL" in without.stderr
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://me:hunter2@127.0.0.1:1/x\n")
    wrong = run("replay", path, "--create-users")
    assert wrong.exit_code == 2
    assert "hunter2" not in wrong.output


@respx.mock
def test_watch_shows_changes_and_takes_the_users_and_windows_along() -> None:
    """`watch` asks for the given users and debounce with the key, prints each message, and ends when refused."""
    change = {"type": "change", "user_id": str(USER), "event": "incremented", "streak": STREAK}
    stream = f"retry: 1000\n\nid: e:5\nevent: change\ndata: {json.dumps(change)}\n\n"
    event_stream = {"content-type": "text/event-stream"}
    answers = [httpx.Response(200, text=stream, headers=event_stream), httpx.Response(401, text="expired")]
    route = respx.get("http://bridge.test/events").mock(side_effect=answers)
    result = run("watch", str(USER), "--bridge-url", "http://bridge.test/", "--debounce", "0", "--json")
    assert result.exit_code == 2
    assert [json.loads(line) for line in result.stdout.splitlines()] == [change]
    assert "401" in result.stderr
    first, second = (call.request for call in route.calls)
    assert dict(first.url.params) == {"user_id": str(USER), "debounce": "0.0"}
    assert first.headers["authorization"] == "Bearer sb_secret_unit"
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "e:5"


def test_messages_are_worded_without_trusting_them() -> None:
    """A line names user, event and numbers, and markup inside a message stays text."""
    event = {"type": "change", "user_id": "[bold]x", "event": "incremented", "streak": STREAK}
    console = Console(width=200)
    with console.capture() as capture:
        console.print(describe(event))
    assert capture.get().split() == ["[bold]x", "incremented", "current", "3,", "longest", "5"]
    assert "back" in Text.from_markup(describe({"type": "state", "state": "degraded", "reason": "back [off"})).plain


def test_a_listener_that_lags_or_runs_ahead_is_missing_a_state() -> None:
    """Only the database's own version counts as the final state."""
    ears = Ears("test")
    for version in (1, 2):
        ears.hear({"type": "change", "user_id": str(USER), "streak": {**STREAK, "version": version}})
    ears.hear({"type": "state", "state": "live"})
    assert ears.changes == 2
    assert [ears.missing({USER: version}) for version in (1, 2, 3)] == [1, 0, 1]
    assert ears.missing({USER: 2, OTHER: 1}) == 1
