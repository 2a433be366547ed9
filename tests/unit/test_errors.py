"""The error tree."""

import copy
import pickle

import pytest

from streak_client import (
    ConcurrentModificationError,
    ConnectionFailedError,
    DatabaseError,
    ErrorCode,
    InvalidInputError,
    InvalidResponseError,
    RateLimitedError,
    RequestTimeoutError,
    StreakError,
    UserNotFoundError,
    errors,
)
from streak_client._translate import Exchange, from_word, translate

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StreakError)]


def test_every_class_has_a_code_of_its_own() -> None:
    """Each leaf of the tree has one code, and each code one class."""
    kinds = [kind for kind in ALL if kind is not StreakError]
    assert sorted(kind.default_code for kind in kinds) == sorted(ErrorCode)


def test_the_drawing_shows_the_whole_tree() -> None:
    """The module's docstring names every class with its code."""
    lines = (errors.__doc__ or "").splitlines()
    for kind in ALL:
        if kind is not StreakError:
            assert any(kind.__name__ in line and kind.default_code in line for line in lines), kind


def test_retryable_is_what_may_succeed_unchanged() -> None:
    """Only faults of the moment are retryable: conflicts, limits, lost connections, time-outs, odd answers."""
    assert {kind for kind in ALL if kind.default_retryable} == {
        ConcurrentModificationError,
        RateLimitedError,
        ConnectionFailedError,
        RequestTimeoutError,
        InvalidResponseError,
    }


@pytest.mark.parametrize(
    "error",
    [
        StreakError("s", detail="WORD", status=500, sqlstate="XX000", retryable=True),
        InvalidInputError("i", field="user_id"),
        UserNotFoundError("u", field="user_id", detail="USER_NOT_FOUND"),
        RateLimitedError("r", retry_after=2.5),
    ],
)
def test_errors_survive_pickling_and_copying(error: StreakError) -> None:
    """An error comes back from another process with its class, message and fields."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert type(twin) is type(error)
        assert (str(twin), vars(twin)) == (str(error), vars(error))


@pytest.mark.parametrize(
    ("word", "kind", "field"),
    [
        ("USER_NOT_FOUND", UserNotFoundError, "user_id"),
        ("USER_ID_REQUIRED", InvalidInputError, "user_id"),
        ("ACTIVITY_IN_FUTURE", InvalidInputError, "activity_at"),
        ("REQUEST_ID_TOO_LONG", InvalidInputError, "request_id"),
        ("CONCURRENT_MODIFICATION", ConcurrentModificationError, None),
        ("SOMETHING_ELSE", DatabaseError, None),
        ("USERLAND", DatabaseError, None),
    ],
)
def test_words_of_the_database_become_errors(word: str, kind: type[StreakError], field: str | None) -> None:
    """The word in a batch's error column decides the class and the field."""
    error = from_word(word)
    assert type(error) is kind
    assert getattr(error, "field", None) == field
    assert error.detail == word


def test_a_surprise_is_an_error_of_this_package_too() -> None:
    """An exception nobody foresaw still reaches the caller as a StreakError, without its text."""
    error = translate(KeyError("sb_secret_x"), Exchange())
    assert type(error) is DatabaseError
    assert "sb_secret_x" not in str(error)
    assert "KeyError" in str(error)
