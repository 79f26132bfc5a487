"""``/supported`` in memory: kept, renewed, and old rather than none."""

from __future__ import annotations

import threading

import pytest

from tests.facilitators.test_breaker import Clock
from x402_django.exceptions import FacilitatorUnavailable
from x402_django.facilitators.capabilities import CachedCapabilities

OLD = frozenset({("exact", "eip155:1")})
NEW = frozenset({("exact", "eip155:2")})


class Service:
    def __init__(self, *answers) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self):
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def cached(service: Service, clock: Clock) -> CachedCapabilities:
    return CachedCapabilities(service, ttl=600, monotonic=clock)


def test_nobody_is_asked_before_somebody_wants_to_know() -> None:
    service = Service(OLD)
    capabilities = cached(service, Clock())
    assert service.asked == 0
    assert (capabilities.get(), capabilities.get(), service.asked) == (OLD, OLD, 1)


def test_it_is_renewed_when_it_is_too_old() -> None:
    clock, service = Clock(), Service(OLD, NEW)
    capabilities = cached(service, clock)
    capabilities.get()
    clock.seconds += 599
    assert (capabilities.get(), service.asked) == (OLD, 1)
    clock.seconds += 1
    assert (capabilities.get(), service.asked) == (NEW, 2)


def test_an_old_answer_is_better_than_none() -> None:
    clock, service = Clock(), Service(OLD, FacilitatorUnavailable(), NEW)
    capabilities = cached(service, clock)
    capabilities.get()
    clock.seconds += 600
    assert (capabilities.get(), capabilities.get(), service.asked) == (OLD, OLD, 2)
    clock.seconds += 30
    assert (capabilities.get(), service.asked) == (NEW, 3)


def test_one_that_is_down_is_not_asked_by_every_request() -> None:
    clock, service = Clock(), Service(FacilitatorUnavailable(), NEW)
    capabilities = cached(service, clock)
    for _ in range(3):
        with pytest.raises(FacilitatorUnavailable):
            capabilities.get()
    assert service.asked == 1
    clock.seconds += 30
    assert (capabilities.get(), service.asked) == (NEW, 2)


def test_who_has_an_old_answer_does_not_wait_for_a_new_one() -> None:
    clock = Clock()
    asked, go_on = threading.Event(), threading.Event()

    def slow():
        asked.set()
        go_on.wait(5)
        return NEW

    answers = iter([lambda: OLD, slow])
    capabilities = CachedCapabilities(lambda: next(answers)(), ttl=600, monotonic=clock)
    assert capabilities.get() == OLD
    clock.seconds += 600
    renewer = threading.Thread(target=capabilities.get)
    renewer.start()
    assert asked.wait(5)
    assert capabilities.get() == OLD
    go_on.set()
    renewer.join()
    assert capabilities.get() == NEW
