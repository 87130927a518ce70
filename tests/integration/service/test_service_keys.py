"""Keys over several web processes."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import call_command

from apps.accounts import verifying
from apps.accounts.keys import new_key
from apps.core.remembered import LIFETIME
from tests.support.accounts import OWNER, key_of, with_other_secret
from tests.support.ports import free_port
from tests.support.service import Service

pytestmark = pytest.mark.usefixtures("db_pool")


@pytest.fixture
def service(tmp_path: Path, db_pool: None) -> Iterator[Service]:
    service = Service(tmp_path, "", REQUIRE_API_KEY="1")
    yield service
    service.kill()


def test_a_revoked_key_is_refused_everywhere_within_two_seconds(
    service: Service,
) -> None:
    # Given two web processes that know a key
    ports = [free_port() for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(service.start_web, ports))
    key = key_of(OWNER, ["read"])

    def status(port: int) -> int:
        path = f"/timer/{uuid4()}"
        return service.request("GET", path, port=port, key=key)[0]

    assert [status(port) for port in ports] == [404] * 2

    # When it is revoked, just after each has looked it up
    until = time.monotonic() + LIFETIME
    while time.monotonic() < until:
        time.sleep(0.05)
        assert [status(port) for port in ports] == [404] * 2
    call_command("api_keys", "revoke", key.split("_")[1])
    revoked = time.monotonic()

    # Then all of them take it no more, after two seconds at most
    while time.monotonic() < revoked + LIFETIME:
        assert {status(port) for port in ports} <= {404, 401}
        time.sleep(0.05)
    assert [status(port) for port in ports] == [401] * 2
    assert service.request("GET", "/livez", port=ports[0])[0] == 200


@pytest.mark.quiet
def test_a_wrong_secret_takes_as_long_whether_there_is_such_a_key() -> None:
    # Given 100 prefixes of keys that are in use, and 100 that no key has
    wrong = []
    for _ in range(100):
        key = key_of(OWNER)
        assert verifying.caller_with(key)
        wrong.append((with_other_secret(key), True))
        wrong.append((new_key(), False))
    random.shuffle(wrong)

    # When each is tried with a wrong secret, for the first time and again
    for _ in range(2):
        times: dict[bool, list[float]] = {True: [], False: []}
        for key, is_known in wrong:
            began = time.perf_counter()
            assert verifying.caller_with(key) is None
            times[is_known].append(time.perf_counter() - began)

        # Then of two times, any may be the longer one
        longer = sum(a > b for a in times[True] for b in times[False])
        assert 0.25 < longer / 100**2 < 0.75
