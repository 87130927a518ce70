"""Names, addresses and connections: what is dialled, and for how long."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_network

import pytest

from apps.webhooks.client import Policy, WebhookClient
from apps.webhooks.http import dialing
from apps.webhooks.results import FailureKind, Result
from tests.support.receiver import answering, scripted
from tests.support.waiting import PATIENCE

Call = Callable[..., Result]


def client_with(
    lookup: Callable[[str], Sequence[str]], *allowed: str
) -> WebhookClient:
    networks = tuple(map(ip_network, allowed or ("127.0.0.0/8",)))
    return WebhookClient(Policy(networks), lookup)


@contextmanager
def black_hole(host: str, port: int) -> Iterator[None]:
    """Have a port that drops connections: its queue of them is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_a_name_is_called_by_its_name(call: Call) -> None:
    client = client_with(lambda host: ["127.0.0.1"])
    with scripted(answering()) as server:
        url = f"http://Receiver.Example.:{server.port}/x"
        assert call(url, client=client).status_code == 200

    host = f"Host: receiver.example.:{server.port}\r\n".encode()
    assert host in server.requests[0]


def test_an_unknown_name(call: Call) -> None:
    def lookup(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name not known")

    result = call("http://nowhere.example/", client=client_with(lookup))

    assert (result.failure, result.sent) == (FailureKind.dns, False)
    assert result.detail == "Name not known"
    assert FailureKind.dns.unsent


def test_a_port_that_nobody_listens_on(call: Call) -> None:
    result = call(f"http://127.0.0.1:{unused_port()}/")

    assert (result.failure, result.sent) == (FailureKind.refused, False)
    assert "127.0.0.1" in result.detail
    assert FailureKind.refused.unsent


def test_an_address_without_a_route(call: Call) -> None:
    """255.255.255.255 is refused by the kernel itself."""
    client = client_with(lambda host: ["255.255.255.255"], "0.0.0.0/0")

    result = call("http://a.example/", client=client, seconds=1)

    assert result.failure is FailureKind.unreachable
    assert not result.sent


def test_a_black_hole_is_given_up_at_the_deadline(call: Call) -> None:
    port = unused_port()
    with black_hole("127.0.0.1", port):
        result = call(f"http://127.0.0.1:{port}/", seconds=0.3)

    assert result.failure is FailureKind.connect_timeout
    assert not result.sent
    assert 0.2 <= result.duration < 1.5 * PATIENCE


def test_a_deadline_that_has_passed_sends_nothing(call: Call) -> None:
    with scripted(answering()) as server:
        result = call(server.url(), seconds=-1)

    assert result.failure is not None
    assert result.failure.unsent
    assert not server.requests


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.2", "127.0.0.1"],  # the first is a black hole
        ["127.0.0.3", "127.0.0.1"],  # the first refuses
        ["127.0.0.2", "127.0.0.3", "127.0.0.1"],
    ],
)
def test_the_next_address_is_tried_in_time(
    call: Call, addresses: list[str]
) -> None:
    client = client_with(lambda host: addresses)
    with scripted(answering()) as server:
        with black_hole("127.0.0.2", server.port):
            url = f"http://a.example:{server.port}/"
            result = call(url, client=client, seconds=2)

    assert result.status_code == 200
    assert len(server.requests) == 1


def test_the_address_that_answered_is_tried_first(call: Call) -> None:
    """Of a dead one and a good one, only the first call waits."""
    client = client_with(lambda host: ["127.0.0.2", "127.0.0.1"])
    durations = []
    with scripted(answering(times=1)) as server:
        with black_hole("127.0.0.2", server.port):
            for _ in range(4):
                url = f"http://a.example:{server.port}/"
                result = call(url, client=client)
                assert result.status_code == 200
                durations.append(result.duration)

    assert durations[0] >= dialing.NEXT_AFTER
    assert durations[0] < dialing.NEXT_AFTER + 0.5
    assert min(durations[1:]) < 0.1


@pytest.mark.parametrize(
    ("resolved", "tried"),
    [
        (["1.0.0.1"], ["1.0.0.1"]),
        (["::1", "::2", "1.0.0.1"], ["::1", "1.0.0.1", "::2"]),
        (["1.0.0.1", "1.0.0.2", "::1"], ["1.0.0.1", "::1", "1.0.0.2"]),
        (["::1", "::2"], ["::1", "::2"]),
    ],
)
def test_the_families_take_turns(
    resolved: list[str], tried: list[str]
) -> None:
    assert dialing.in_turn(resolved) == tried


def test_only_allowed_addresses_are_dialled(call: Call) -> None:
    addresses = ["10.0.0.1", "127.0.0.2", "::1", "127.0.0.1"]
    client = client_with(lambda host: addresses, "127.0.0.1/32")
    with scripted(answering()) as server:
        with black_hole("127.0.0.2", server.port):
            url = f"http://a.example:{server.port}/"
            result = call(url, client=client)

    assert result.status_code == 200
    assert result.duration < 1.0


def test_a_name_that_changes_its_address_gains_nothing(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what is dialled is what was checked."""
    monkeypatch.setattr("apps.webhooks.resolver.CACHE_SECONDS", 0.0)
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"]] * 10)
    client = client_with(lambda host: next(answers), "127.0.0.1/32")
    results = []
    with scripted(answering(times=1)) as good:
        with socket.create_server(("127.0.0.2", good.port)) as inward:
            inward.setblocking(False)
            url = f"http://a.example:{good.port}/"
            for _ in range(6):
                results.append(call(url, client=client))
                time.sleep(0.06)
            with pytest.raises(BlockingIOError):
                inward.accept()

    assert [result.status_code for result in results] == [
        200, None, 200, 200, None, 200
    ]  # fmt: skip
    assert results[1].failure is FailureKind.blocked


@pytest.mark.quiet
def test_hanging_names_leave_the_others_on_time(call: Call) -> None:
    let_go = threading.Event()

    def lookup(host: str) -> Sequence[str]:
        if host.startswith("hang"):
            let_go.wait(30)
        return ["127.0.0.1"]

    client = client_with(lookup)
    try:
        with scripted(answering()) as server:
            with ThreadPoolExecutor(40) as threads:
                hanging = [
                    threads.submit(
                        call, f"http://hang{n}.example/", client=client,
                        seconds=1.0,
                    )
                    for n in range(20)
                ]  # fmt: skip
                fine = [
                    threads.submit(
                        call, f"http://fine{n}.example:{server.port}/",
                        client=client,
                    )
                    for n in range(200)
                ]  # fmt: skip
                others = [future.result() for future in fine]
                held = [future.result() for future in hanging]
    finally:
        let_go.set()

    assert {result.status_code for result in others} == {200}
    assert max(result.duration for result in others) < 0.9
    assert {result.failure for result in held} == {FailureKind.dns}
    assert max(result.duration for result in held) < 2.5
    assert min(result.duration for result in held) > 0.9


def test_64_threads_share_a_client(call: Call) -> None:
    with scripted(answering()) as server:
        with ThreadPoolExecutor(64) as threads:
            results = list(
                threads.map(
                    lambda n: call(server.url(), headers={"n": str(n)}),
                    range(1000),
                )
            )

    assert {result.status_code for result in results} == {200}
    assert len(set(server.requests)) == len(server.requests) == 1000


def test_a_closed_client_keeps_no_connection(call: Call) -> None:
    client = client_with(lambda host: ["127.0.0.1"])
    with scripted(answering()) as server:
        call(server.url(), client=client)
        client.close()
        assert call(server.url(), client=client).status_code == 200
        time.sleep(0.06)
        assert call(server.url(), client=client).status_code == 200

    assert server.accepted == 3
