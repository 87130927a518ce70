"""Lookups that hang, fail, or are asked for by many at once."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.webhooks import resolver as resolver_module
from apps.webhooks.resolver import Resolver, system_lookup
from tests.support.waiting import PATIENCE


class Lookup:
    """A resolver in which chosen names hang until they are let go."""

    def __init__(self, **answers: Sequence[str] | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.let_go = threading.Event()

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host.startswith("hang"):
            self.let_go.wait(30)
            return ["192.0.2.9"]
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def hanging() -> Iterator[Lookup]:
    lookup = Lookup(fine=["192.0.2.1"])
    yield lookup
    lookup.let_go.set()


def test_a_name_is_looked_up_once_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookup = Lookup(a=["192.0.2.1", "2001:db8::1", "192.0.2.1"])
    resolver = Resolver(lookup)

    assert resolver.resolve("a", 5) == ("192.0.2.1", "2001:db8::1")
    assert resolver.resolve("a", 5) == ("192.0.2.1", "2001:db8::1")
    assert lookup.asked == ["a"]
    later = time.monotonic() + resolver_module.CACHE_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    resolver.resolve("a", 5)
    assert lookup.asked == ["a", "a"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:1.2.3.4"])
def test_an_address_is_not_looked_up(address: str) -> None:
    lookup = Lookup()

    assert Resolver(lookup).resolve(address, 5) == (address,)
    assert lookup.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        socket.gaierror(socket.EAI_NONAME, "no such name"),
        UnicodeError("a label is too long"),
        [],
    ],
)
def test_a_failure_is_an_os_error_and_not_kept(
    answer: Sequence[str] | Exception,
) -> None:
    lookup = Lookup(a=answer)
    resolver = Resolver(lookup)

    for _ in range(2):
        with pytest.raises(OSError, match=r"no such|too long|no address"):
            resolver.resolve("a", 5)
    assert lookup.asked == ["a", "a"]


def test_a_hanging_name_holds_nobody_past_the_time(hanging: Lookup) -> None:
    resolver = Resolver(hanging)
    start = time.monotonic()

    with pytest.raises(TimeoutError):
        resolver.resolve("hang", 0.05)

    assert 0.05 <= time.monotonic() - start < PATIENCE
    assert resolver.resolve("fine", 1) == ("192.0.2.1",)


def test_many_waiting_for_one_name_share_a_lookup(hanging: Lookup) -> None:
    resolver = Resolver(hanging)
    with ThreadPoolExecutor(20) as pool:
        waiting = [
            pool.submit(resolver.resolve, "hang", 10) for _ in range(20)
        ]
        deadline = time.monotonic() + 10
        while not hanging.asked and time.monotonic() < deadline:
            time.sleep(0.001)
        hanging.let_go.set()
        answers = {future.result() for future in waiting}

    assert answers == {("192.0.2.9",)}
    assert hanging.asked == ["hang"]


def test_hanging_lookups_are_bounded(
    hanging: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "_MAX_LOOKUPS", 3)
    resolver = Resolver(hanging)

    for n in range(3):
        with pytest.raises(TimeoutError):
            resolver.resolve(f"hang{n}", 0.01)
    with pytest.raises(OSError, match="too many"):
        resolver.resolve("fine", 1)
    hanging.let_go.set()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert resolver.resolve("fine", 1) == ("192.0.2.1",)
            break
        except OSError:
            assert time.monotonic() < deadline


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "_MAX_CACHED", 2)
    lookup = Lookup(**{f"n{n}": ["192.0.2.1"] for n in range(9)})
    resolver = Resolver(lookup)

    for n in range(9):
        resolver.resolve(f"n{n}", 5)

    assert len(resolver._cache) <= 2


def test_the_system_knows_localhost() -> None:
    assert set(system_lookup("localhost")) <= {"127.0.0.1", "::1"}
