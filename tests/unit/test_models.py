"""The models."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from streak_client import Activity, ActivityOutcome, InvalidResponseError, UserStreak
from streak_client.models import Instant

USER = UUID("f8e1edd8-731e-52c8-92cb-a3f4b05e31a7")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22 09:46:48.715809+00", datetime(2026, 11, 22, 9, 46, 48, 715809, UTC)),
        ("2026-11-22T09:46:48.715809+00:00", datetime(2026, 11, 22, 9, 46, 48, 715809, UTC)),
        ("2026-11-22 09:46:48+05:30", datetime(2026, 11, 22, 4, 16, 48, tzinfo=UTC)),
        ("2026-11-22 09:46:48-08", datetime(2026, 11, 22, 17, 46, 48, tzinfo=UTC)),
        ("2026-11-22T09:46:48Z", datetime(2026, 11, 22, 9, 46, 48, tzinfo=UTC)),
    ],
)
def test_instants_are_read_from_both_servers_forms(text: str, expected: datetime) -> None:
    """PostgreSQL's short offset and PostgREST's ISO form give the same aware instant."""
    assert TypeAdapter(Instant).validate_python(text) == expected


@pytest.mark.parametrize("text", ["2026-11-22 09:46:48", "2026-11-22", "infinity", ""])
def test_an_instant_without_an_offset_is_refused(text: str) -> None:
    """No naive time gets in."""
    with pytest.raises(ValidationError):
        TypeAdapter(Instant).validate_python(text)


def test_models_are_frozen_and_ignore_columns_they_do_not_know() -> None:
    """A newer database's extra columns do no harm, and an answer cannot be changed."""
    streak = UserStreak.model_validate(
        {
            "user_id": str(USER),
            "current_streak": 0,
            "longest_streak": 0,
            "last_active_date": None,
            "timezone": "UTC",
            "is_active_today": False,
            "days_since_activity": None,
            "expires_at": None,
            "version": 0,
            "brand_new": 1,
        }
    )
    assert streak.user_id == USER
    assert not hasattr(streak, "brand_new")
    with pytest.raises(ValidationError):
        streak.current_streak = 9  # type: ignore[misc]


def test_an_outcome_without_answer_raises_when_unwrapped() -> None:
    """An outcome never turns into None."""
    with pytest.raises(InvalidResponseError):
        ActivityOutcome(Activity(USER)).unwrap()
