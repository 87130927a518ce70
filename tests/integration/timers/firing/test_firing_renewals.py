"""A claim that is old by the time of the request is renewed before it."""

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apps.core.batching import GroupCommit
from apps.core.processes import PerProcess
from apps.timers.firing import call, claims, fire
from apps.timers.storage import claiming
from apps.timers.storage.claim_records import ClaimRequest
from apps.webhooks.client import WebhookClient, from_settings
from tests.integration.webhooks.conftest import make_certificate
from tests.support.postgres_switch import PostgresSwitch
from tests.support.receiver import (
    ScriptedReceiver,
    answering,
    scripted,
)
from tests.support.rows import change, new_timer, row

pytestmark = pytest.mark.usefixtures("local_calls")

Hook = Callable[[], object]
both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])


class SlowHandshakes(ssl.SSLContext):
    """Leaves its clients waiting before it shakes hands."""

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        time.sleep(0.3)
        return super().wrap_socket(*args, **options)


class Road:
    """The way from a timer's claim to a receiver named a.example."""

    def __init__(self, certificate: Path) -> None:
        self._certificate = certificate
        #: What happens while the name is resolved.
        self.on_lookup: Hook = bool
        #: What happens at each renewal, before the store's own.
        self.on_renewal: Hook = bool
        #: How many requests had arrived at the end of each renewal.
        self.renewals: list[int] = []
        self.receiver: ScriptedReceiver

    def lookup(self, _: str) -> Sequence[str]:
        """Resolve any name."""
        self.on_lookup()
        return ["127.0.0.1"]

    def renew(self, claims: Sequence[ClaimRequest]) -> list[bool]:
        """Renew, and take so long that whoever doesn't wait is seen."""
        self.on_renewal()
        renewed = claiming.renew(claims)
        time.sleep(0.1)
        self.renewals.append(len(self.receiver.requests))
        return renewed

    @contextmanager
    def timer(
        self, scheme: str, context: type[ssl.SSLContext] = ssl.SSLContext
    ) -> Iterator[Any]:
        """Run the receiver and give the id of an overdue timer for it."""
        tls = None
        if scheme == "https":
            tls = context(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self._certificate)
        with scripted(answering(), tls=tls) as self.receiver:
            url = f"{scheme}://a.example:{self.receiver.port}/"
            yield new_timer(-1, url=url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "DNS:a.example")


@pytest.fixture
def road(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Road:
    """Let the process fire by way of a road."""
    road = Road(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(claims, "_renewals", GroupCommit(road.renew))
    monkeypatch.setattr(
        call, "client",
        PerProcess(lambda: WebhookClient(from_settings(), road.lookup)),
    )
    fire.prepare()
    return road


class LeaseClock:
    """A lease clock that stands still until it is moved on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds


@pytest.fixture
def lease_clock(monkeypatch: pytest.MonkeyPatch) -> LeaseClock:
    clock = LeaseClock()
    monkeypatch.setattr(claims, "lease_clock", clock)
    return clock


@pytest.mark.parametrize(
    ("scheme", "slow"),
    [("http", "name"), ("https", "name"), ("https", "handshake")],
)
def test_a_slow_way_to_the_receiver_takes_one_renewal_before_the_request(
    road: Road, scheme: str, slow: str
) -> None:
    # Given a name, or a handshake, that takes over 250 ms
    context = ssl.SSLContext
    if slow == "name":
        road.on_lookup = lambda: time.sleep(0.3)
    else:
        context = SlowHandshakes

    # When the timer is fired
    with road.timer(scheme, context) as timer_id:
        fire.fire(timer_id)

        # Then the request came after the renewal
        assert road.renewals == [0]
        assert len(road.receiver.requests) == 1
    assert row(timer_id)["outcome"] == "delivered"


@both_schemes
@pytest.mark.parametrize(("age", "renewals"), [(0.24, 0), (0.26, 1)])
def test_a_claim_is_renewed_when_older_than_250_ms(
    road: Road, lease_clock: LeaseClock, scheme: str, age: float,
    renewals: int,
) -> None:
    road.on_lookup = lambda: lease_clock.move(age)
    with road.timer(scheme) as timer_id:
        fire.fire(timer_id)
    assert len(road.renewals) == renewals
    assert row(timer_id)["outcome"] == "delivered"


@both_schemes
@pytest.mark.parametrize(
    ("trouble", "detail"),
    [("refused", "taken over"), ("away", "could not be renewed"),
     ("late", "10.1 s old")],
)
def test_without_a_renewal_in_time_nothing_is_sent(
    road: Road, lease_clock: LeaseClock, postgres: PostgresSwitch,
    caplog: pytest.LogCaptureFixture, scheme: str, trouble: str, detail: str,
) -> None:
    # Given an old claim that another has taken over, or no Postgres, or a
    # machine that sleeps for half of the lease during the renewal
    road.on_lookup = lambda: lease_clock.move(1)
    with road.timer(scheme) as timer_id:
        token = "claim_token = gen_random_uuid()"
        hooks: dict[str, Hook] = {
            "refused": lambda: change(timer_id, token),
            "away": postgres.goes_away,
            "late": lambda: lease_clock.move(10.1),
        }
        road.on_renewal = hooks[trouble]
        # Were it sent, its record would not wait for Postgres for ever.
        claims.stopping.set()

        # When the timer is fired
        fire.fire(timer_id)

        # Then the receiver got nothing
        assert road.receiver.accepted == 1
        assert road.receiver.requests == []

    # And the claim is left to run out
    postgres.comes_back()
    found = row(timer_id)
    assert (found["outcome"], found["sent_at"]) == (None, None)
    assert found["connect_failures"] == 0
    assert found["leased_until"] is not None
    assert detail in vars(caplog.records[-1])["detail"]


def test_a_renewed_claim_that_outlives_the_call_is_used(
    road: Road, lease_clock: LeaseClock
) -> None:
    road.on_lookup = lambda: lease_clock.move(1000)
    road.on_renewal = lambda: lease_clock.move(9.9)
    with road.timer("http") as timer_id:
        fire.fire(timer_id)
    assert row(timer_id)["outcome"] == "delivered"
