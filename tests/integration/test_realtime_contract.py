"""The contract of the stand-in for Realtime: the conversations captured from the real server, played again."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from tests.support.realtime_database import TABLES, database, server
from tests.support.realtime_replay import Replay, load, rename

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "realtime"
NAMES = [path.stem for path in sorted(TRANSCRIPTS.glob("*.jsonl"))]
SUBJECTS = {"aaaaaaaa": "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb": "bbbbbbbb-0000-4000-8000-000000000002"}

# Answers of the server, among the lines of a transcript.
ANSWERS = {"recv", "http_reject", "connect_error", "close"}
# Tenants: the stand-in serves one project whatever the host's name.
LEFT_OUT = {"host"}

# Another project: other tables, columns, types, topics, people and values.
OTHER = {
    "user_streaks": "practice_runs",
    "not_published": "private_notes",
    "user_id": "owner",
    "current_streak": "score",
    "longest_streak": "best_score",
    "last_active_date": "played_on",
    "timezone": "club",
    "updated_at": "seen",
    "types_demo": "all_kinds",
    "big_demo": "essays",
    "nopk_demo": "keyless",
    "realtime:streaks": "realtime:room:7",
    '"channel":"streaks"': '"channel":"room:7"',
    "aaaaaaaa-0000-4000-8000-000000000001": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "bbbbbbbb-0000-4000-8000-000000000002": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "Europe/Berlin": "Łódź \U0001f3c1",
    "2026-01-02": "1999-12-31",
    "notauuid": "neither",
    "nosuch": "missing",
    "current_streak=99": "score=-5",
    "nope": "absent",
    "deadbeef": "00ff7f",
    "1234567890.123456789": "-0.000000001000",
    "1.5e300": "-2.5e-7",
    "15" + "0" * 299: "-0.00000025",
    "9007199254740993": "-9223372036854775808",
    "1 day 2 hours": "3 mons 4 days",
    "1 day 02:00:00": "3 mons 4 days",
    '"x y","q': '"a,b"',
    "shout": "whisper",
    "realtime:room": "realtime:hall",
}


@dataclass(frozen=True)
class Project:
    """A captured or an invented project: how its names differ from the captured ones."""

    names: dict[str, str]

    def transcript(self, name: str) -> list[dict[str, Any]]:
        """Read a transcript as if it had been captured from this project."""
        return rename(load(TRANSCRIPTS / f"{name}.jsonl"), self.names)

    def text(self, text: str) -> str:
        """Put this project's names into a text."""
        return str(rename([{"text": text}], self.names)[0]["text"])


PROJECTS = {"captured": Project({"\0": ""}), "invented": Project(OTHER)}
# What file 16 makes for itself, in case that it ran before.
REPEATABLE = "drop table if exists types_demo, big_demo, nopk_demo"


@pytest.fixture(scope="module")
def urls(stack: StackInfo) -> Iterator[dict[str, str]]:
    """One database for each project, made once: transcripts begin with empty tables anyway."""
    made: dict[str, str] = {}
    with ExitStack() as databases:
        for key, project in PROJECTS.items():
            made[key] = databases.enter_context(database(stack.database_url, project.text(TABLES)))
        yield made


async def play(url: str, project: Project, name: str) -> int:
    """Replay a transcript; return how many answers were compared."""
    subjects = {short: project.text(subject) for short, subject in SUBJECTS.items()}
    lines = [line for line in project.transcript(name) if line["conn"] not in LEFT_OUT]
    async with server(url) as running:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(project.text(REPEATABLE))
            if name.startswith("00"):
                await running.fault("drop_changes", table=project.text("user_streaks"))
            replay = Replay(lines, running, connection, subjects=subjects, any_version=name.startswith("21"))
            await replay.run()
        finally:
            await connection.close()
    assert replay.compared == sum(line["dir"] in ANSWERS for line in lines)
    return replay.compared


@pytest.mark.parametrize("name", NAMES)
async def test_answers_as_the_captured_server(urls: dict[str, str], name: str) -> None:
    """To the client frames and SQL of each transcript the stand-in answers what the real server answered, in order."""
    assert await play(urls["captured"], PROJECTS["captured"], name) > 0


@pytest.mark.parametrize("name", NAMES)
async def test_answers_for_other_tables_ids_and_values(urls: dict[str, str], name: str) -> None:
    """The answers follow from the request and the database: they hold for names and values that were never captured."""
    assert await play(urls["invented"], PROJECTS["invented"], name) > 0
