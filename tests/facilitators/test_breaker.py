"""The circuit breaker: exact transitions on a clock of our own, and under threads."""

from __future__ import annotations

import threading

from x402_django.facilitators.breaker import BreakerState, CircuitBreaker


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def breaker(clock: Clock, *, jitter: float = 0.0, **options) -> CircuitBreaker:
    options = {"failures": 3, "cool_down": 30.0, **options}
    return CircuitBreaker("first", monotonic=clock, jitter=lambda: jitter, **options)


def opened(clock: Clock, **options) -> CircuitBreaker:
    made = breaker(clock, **options)
    for _ in range(3):
        assert made.admits()
        made.failed()
    return made


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    clock = Clock()
    made = breaker(clock)
    made.failed()
    made.failed()
    made.succeeded()  # not in a row
    made.failed()
    made.failed()
    assert (made.state, made.admits()) == (BreakerState.CLOSED, True)
    made.failed()
    assert (made.state, made.admits()) == (BreakerState.OPEN, False)


def test_after_the_cool_down_one_caller_is_let_through() -> None:
    clock = Clock()
    made = opened(clock)
    clock.seconds += 29.9
    assert not made.admits()
    clock.seconds += 0.1
    assert [made.admits(), made.admits()] == [True, False]
    assert made.state is BreakerState.HALF_OPEN
    made.succeeded()
    assert (made.state, made.admits(), made.admits()) == (BreakerState.CLOSED, True, True)


def test_a_failed_trial_opens_it_again_for_a_whole_cool_down() -> None:
    clock = Clock()
    made = opened(clock)
    clock.seconds += 30
    assert made.admits()
    clock.seconds += 5
    made.failed()
    assert made.state is BreakerState.OPEN
    clock.seconds += 29.9
    assert not made.admits()
    clock.seconds += 0.1
    assert made.admits()


def test_a_trial_of_which_nobody_hears_again_does_not_block_it_for_ever() -> None:
    clock = Clock()
    made = opened(clock)
    clock.seconds += 30
    assert made.admits()
    clock.seconds += 29.9
    assert not made.admits()
    clock.seconds += 0.1
    assert made.admits()


def test_failures_while_it_is_open_do_not_put_off_the_trial() -> None:
    clock = Clock()
    made = opened(clock)
    clock.seconds += 29
    made.failed()
    clock.seconds += 1
    assert made.admits()


def test_the_cool_down_is_stretched_by_chance() -> None:
    clock = Clock()
    made = opened(clock, jitter=0.8)  # 30 s * (1 + 0.25 * 0.8)
    clock.seconds += 35.9
    assert not made.admits()
    clock.seconds += 0.11
    assert made.admits()


def test_changes_of_state_are_logged_once_each(caplog) -> None:
    caplog.set_level("INFO", logger="x402_django.facilitators")
    clock = Clock()
    made = opened(clock)
    made.failed()
    clock.seconds += 30
    made.admits()
    made.admits()
    made.succeeded()
    made.succeeded()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "Facilitator first: breaker open (3 failures in a row; asked last for 30 seconds)",
        ),
        ("INFO", "Facilitator first: breaker half-open (one request is let through)"),
        ("INFO", "Facilitator first: breaker closed (it answers again)"),
    ]


def test_of_many_threads_one_gets_the_trial() -> None:
    clock = Clock()
    made = opened(clock)
    clock.seconds += 30
    barrier, admitted = threading.Barrier(16), []

    def ask() -> None:
        barrier.wait()
        admitted.append(made.admits())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(admitted) == [False] * 15 + [True]
