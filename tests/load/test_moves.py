"""What moves cost, and how late moved timers are (`-m load -s`).

The storage and the publisher are driven as web's group commit drives them:
without HTTP, of which this machine could not do so many requests beside all
the rest.
"""

import os
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dramatiq
import pytest
from pytest_django import Settings

from apps.broker.rabbitmq import LadderBroker
from apps.timers import services
from apps.timers.scheduling import publishing
from apps.timers.storage import by_key
from apps.timers.storage.records import (
    Definition,
    DueMessage,
    NamedTimer,
    Stored,
)
from tests.support.accounts import OWNER
from tests.support.rabbitmq import Management, virtual_host
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import each_called_once, show_lateness, value_of

pytestmark = [
    pytest.mark.load, pytest.mark.rabbitmq, pytest.mark.timeout(400)
]

KEYS, RATE, SECONDS = 10_000, 2_000, 60
GROUP = 50
#: How far a timer is moved from now, in seconds.
NEAREST, FARTHEST = 20.0, 55.0


@pytest.fixture
def stack(
    db_pool: None,
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Management]:
    with virtual_host(os.environ["RABBITMQ_URL"]) as (url, management):
        settings.RABBITMQ_URL = url
        broker = LadderBroker(url)
        monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
        service = Service(tmp_path, url)
        service.start_worker(threads=32)
        service.start_dispatcher()
        yield management
        service.kill()
        broker.close()


def put(keys: list[str], url: str) -> list[Stored]:
    """Give keys new times in one commit, and publish what needs it."""
    puts = []
    for key in keys:
        delay = timedelta(seconds=random.uniform(NEAREST, FARTHEST))
        timer = services.new_timer(OWNER, Definition(url), delay)
        named = NamedTimer(timer, key, takes_key=True)
        puts.append(by_key.Put(named, "extend"))
    done = [each for each in by_key.put(puts) if isinstance(each, Stored)]
    publishing.publish_later(*(
        DueMessage(each.timer.id, each.publish_at)
        for each in done if each.publish_at is not None
    ))
    return done


def set_all(keys: list[str], url: str) -> None:
    """Set or move the timers of all keys."""
    for start in range(0, KEYS, GROUP):
        put(keys[start:start + GROUP], url)


def living() -> set[str]:
    """Return the timers that have not ended."""
    found = value_of("SELECT array_agg(id) FROM timer WHERE outcome IS NULL")
    return {str(timer) for timer in found}


def show(title: str, management: Management) -> None:
    messages = sum(
        int(queue.get("messages", 0)) for queue in management.queues().values()
    )
    size = value_of("SELECT pg_total_relation_size('timer') / 1048576")
    rows = value_of("SELECT count(*) FROM timer")
    print(f"{title}: {messages:,} messages, {size} MB for {rows:,} timers")


def test_moves_leave_timers_on_time(stack: Management) -> None:
    receiver = Receiver()
    keys = [f"key {number}" for number in range(KEYS)]
    try:
        # What the machine does with as many timers that nobody moves
        set_all(keys, receiver.url())
        unmoved = living()
        each_called_once(receiver, unmoved, within=FARTHEST + 30)
        show_lateness("not moved", receiver, unmoved)

        set_all(keys, receiver.url())
        began, moves, news, shown = time.monotonic(), 0, 0, 0
        while (elapsed := time.monotonic() - began) < SECONDS:
            if moves > elapsed * RATE:
                time.sleep(0.005)
                continue
            done = put(random.sample(keys, GROUP), receiver.url())
            moves += GROUP
            news += sum(each.publish_at is not None for each in done)
            if elapsed > shown:
                show(f"after {elapsed:.0f} s", stack)
                shown += 10
        print(f"{moves / elapsed:,.0f} moves/s, {news / moves:.0%} of them"
              " with a message")
        stopped = time.time()
        moved = living()
        each_called_once(receiver, moved, within=FARTHEST + 30)
        show(f"{time.time() - stopped:.0f} s after the last move", stack)
        show_lateness("moved", receiver, moved)
    finally:
        receiver.close()
