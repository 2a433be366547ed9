"""When and how long the client waits."""

import logging

import httpx
import pytest
import respx

from streak_client import DatabaseError, InvalidInputError, RateLimitedError, StreakClient, StreakError, _retry


def test_delays_double_from_50_ms_with_a_quarter_of_jitter() -> None:
    """The waits are 50, 100 and 200 ms, each somewhere within a quarter around it, and never beyond five seconds."""
    for attempt, nominal in ((1, 0.05), (2, 0.1), (3, 0.2), (30, 5.0)):
        delays = [_retry.delay_after(attempt) for _ in range(200)]
        assert all(0.75 * nominal <= delay <= 1.25 * nominal for delay in delays)
        assert max(delays) - min(delays) > 0.1 * nominal


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DatabaseError("5xx", retryable=True), True),
        (DatabaseError("constraint"), False),
        (RateLimitedError("later"), False),
        (InvalidInputError("wrong"), False),
        (KeyError("bug"), False),
        (None, False),
    ],
)
def test_what_is_tried_again_at_once(error: object, expected: bool) -> None:  # noqa: FBT001 - a table of cases
    """A rate limit and a refusal are not tried again, a 5xx is."""
    assert _retry.is_transient(error) is expected


@pytest.mark.parametrize("retries", [0, 1, 5])
@respx.mock
def test_max_retries_counts_the_attempts_after_the_first(retries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_retries` is the number of further attempts; 0 means a single one."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    route = respx.post("http://streaks.test/rest/v1/rpc/get_user_streak").respond(503)
    with StreakClient("http://streaks.test", "sb_secret_unit", max_retries=retries) as client:
        with pytest.raises(StreakError):
            client.get_user_streak("f8e1edd8-731e-52c8-92cb-a3f4b05e31a7")
        assert route.call_count == retries + 1


@respx.mock
def test_retries_are_logged_without_personal_data(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that and why an attempt is repeated, but neither for whom nor with which key."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    user = "f8e1edd8-731e-52c8-92cb-a3f4b05e31a7"
    respx.post("http://streaks.test/rest/v1/rpc/get_user_streak").mock(side_effect=httpx.ConnectError("refused"))
    with (
        caplog.at_level(logging.DEBUG, "streak_client"),
        StreakClient("http://streaks.test", "sb_secret_unit") as client,
        pytest.raises(StreakError),
    ):
        client.get_user_streak(user)
    texts = [record.getMessage() for record in caplog.records if record.name == "streak_client"]
    assert len(texts) == 3
    assert all("CONNECTION_FAILED" in text and user not in text and "sb_secret" not in text for text in texts)
