from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtime_bridge.debounce import Debouncer


def run(changes: list[float], debounce: float, max_wait: float) -> list[tuple[float, int]]:
    """Play changes at given times; return when each window closed and how many changes it held."""
    debouncer: Debouncer[str] = Debouncer(debounce, max_wait)
    closed: list[tuple[float, int]] = []
    ask, held = float("inf"), 0
    for seq, time in enumerate([*sorted(changes), float("inf")]):
        while ask <= time and ask != float("inf"):
            again = debouncer.ripe("u", ask)
            if again is None:
                closed.append((ask, held))
                held = 0
            ask = again if again is not None else float("inf")
        if time != float("inf"):
            due = debouncer.offer("u", seq, time)
            ask = due if due is not None else ask
            held += 1
    return closed


def test_a_lone_change_is_due_after_the_quiet_time() -> None:
    """A change that nothing follows is held back for exactly the debounce time."""
    assert run([10.0], 2.0, 5.0) == [(12.0, 1)]


def test_every_change_restarts_the_quiet_time() -> None:
    """Only the trailing edge sends: changes less than the quiet time apart share one window."""
    assert run([0.0, 1.5, 3.0], 2.0, 60.0) == [(5.0, 3)]


def test_a_steady_stream_is_sent_at_max_wait() -> None:
    """A user who never falls quiet is sent at max_wait after the first change of the window."""
    assert run([float(tick) for tick in range(12)], 2.0, 5.0) == [(5.0, 5), (10.0, 5), (13.0, 2)]


def test_no_debounce_means_due_at_once() -> None:
    """With 0 every change is due the moment it comes."""
    assert Debouncer[str](0, 0).offer("u", 1, 7.0) == 7.0


def test_a_cancelled_window_is_never_due() -> None:
    """What a delete overtook is not sent afterwards."""
    debouncer: Debouncer[str] = Debouncer(1, 1)
    debouncer.offer("u", 1, 0)
    assert debouncer.cancel("u")
    assert "u" not in debouncer
    assert not debouncer.cancel("u")


def test_the_low_water_mark_is_the_oldest_change_held_back() -> None:
    """A resume token may not pass the first change of any open window, however late that window closes."""
    debouncer: Debouncer[str] = Debouncer(1, 10)
    for seq, key in ((1, "a"), (2, "b"), (3, "a")):
        debouncer.offer(key, seq, seq)
    assert debouncer.low_water() == 1
    assert debouncer.ripe("b", 3) is None
    assert debouncer.low_water() == 1
    assert debouncer.ripe("a", 4) is None
    assert debouncer.low_water() is None


@given(
    st.lists(st.floats(0, 50), min_size=1),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.0, 1.0, 5.0]),
)
def test_every_change_is_sent_once_and_never_late(changes: list[float], debounce: float, max_wait: float) -> None:
    """For any times, every change falls into one window, which closes within max_wait and not before it is quiet."""
    longest = max(debounce, max_wait)
    closed = run(changes, debounce, max_wait)
    assert sum(held for _, held in closed) == len(changes)
    waiting = sorted(changes)
    for time, held in closed:
        window, waiting = waiting[:held], waiting[held:]
        assert window[0] <= time <= window[0] + longest + 1e-9
        assert time >= window[-1] + debounce - 1e-9 or time >= window[0] + longest - 1e-9
