"""Numbers that processes share, and the metrics made of them."""

import errno
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from apps.monitoring.metrics import catalogue, kinds, numbers
from apps.monitoring.metrics.exposition import counted
from apps.monitoring.metrics.kinds import Counter, Gauge, Histogram, Moment
from apps.monitoring.metrics.numbers import Numbers
from apps.timers.models import Outcome

ROOT = Path(__file__).resolve().parents[3]
#: Everything that a label may be called. None of them is a caller's word.
LABELS = {"outcome", "result", "became", "pool", "le"}


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    """Let the test have numbers of its own."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    made = Numbers()
    monkeypatch.setattr(kinds, "NUMBERS", made)
    return made


def sibling(own: Numbers) -> Numbers:
    """Return the numbers of another process of the same server."""
    made = Numbers()
    made.reserve("others", len(own.read()[0].values) - 1)
    made._layout = own._layout
    return made


def samples(
    metric: Counter | Gauge | Histogram | Moment, own: Numbers
) -> dict[str, float]:
    family = metric.collect(own.read())
    return {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for sample in family.samples
    }


def test_counters_add_up_over_processes(own: Numbers) -> None:
    # Given two processes of one server, one of which has counted before
    counter = Counter("some_total", "Some.", "kind", ("a", "b"))
    counter.add(of="a")
    other = sibling(own)
    assert [own.share("web"), other.share("web")] == [0, 1]

    # When both count
    counter.add(2, of="b")
    other.add(counter._places["b"], 5)

    # Then each of them knows the sums
    expected = {"some_total,a": 1, "some_total,b": 7}
    assert samples(counter, own) == samples(counter, other) == expected


def test_other_servers_numbers_are_not_added(own: Numbers) -> None:
    counter = Counter("some_total", "Some.")
    other = sibling(own)
    own.share("web")
    other.share("worker")
    other.add(counter._places[""], 5)

    assert samples(counter, own) == {"some_total": 0}


def test_only_a_known_value_is_counted() -> None:
    counter = Counter("some_total", "Some.", "kind", ("a", "b"))

    with pytest.raises(KeyError):
        counter.add(of="example.com")


class Slow(float):
    """A number that another thread can overtake while it is added."""

    def __radd__(self, other: float) -> float:
        time.sleep(0.001)
        return other + float(self)


def test_many_threads_lose_no_count(own: Numbers) -> None:
    counter = Counter("some_total", "Some.")
    own.share("web")

    def count() -> None:
        for _ in range(5):
            counter.add(Slow(1))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert samples(counter, own) == {"some_total": 40}


KILLED = """
import multiprocessing, os, signal
from apps.monitoring.metrics.kinds import Counter
from apps.monitoring.metrics.numbers import NUMBERS

counter = Counter("some_total", "Some.")

def first():
    assert NUMBERS.share("web") == 0
    counter.add(3)
    os.kill(os.getpid(), signal.SIGKILL)

def second():
    assert NUMBERS.share("web") == 0
    counter.add(4)
    print(counter.collect(NUMBERS.read()).samples[0].value)

for part in first, second:
    process = multiprocessing.get_context("fork").Process(target=part)
    process.start()
    process.join()
"""


def test_the_next_process_goes_on_where_a_killed_one_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert done.stdout == "7.0\n"


def test_gauges_are_those_of_processes_that_live(own: Numbers) -> None:
    # Given two processes
    counter, gauge = Counter("a_total", "A."), Gauge("a_now", "A.")
    other = sibling(own)
    own.share("web")
    other.share("web")
    other.add(counter._places[""], 3)
    other.set(gauge._places[""], 9)
    gauge.set(1)
    assert samples(gauge, own) == {"a_now": 10}

    # When one gives no sign any more, Then only its counts stay
    other.set(numbers._SIGN, other._values[0] - numbers._ALIVE - 1)
    assert samples(gauge, own) == {"a_now": 1}
    assert samples(counter, own) == {"a_total": 3}


def test_a_moment_is_the_one_longest_ago_of_those_that_were(
    own: Numbers,
) -> None:
    moment = Moment("a_timestamp_seconds", "A.")
    other = sibling(own)
    own.share("web")
    other.share("web")
    assert samples(moment, own) == {}

    moment.set(1000)
    assert samples(moment, own) == {"a_timestamp_seconds": 1000}

    other.set(moment._place, 900)
    assert samples(moment, own) == {"a_timestamp_seconds": 900}


def test_a_histogram_has_every_duration_in_a_bucket(own: Numbers) -> None:
    histogram = Histogram("a_seconds", "A.")
    for seconds in (-0.1, 0, 0.001, 0.0011, 100, 101):
        histogram.observe(seconds)

    found = samples(histogram, own)
    assert found["a_seconds_bucket,0.001"] == 3
    assert found["a_seconds_bucket,0.002"] == 4
    assert found["a_seconds_bucket,100.0"] == 5
    assert found["a_seconds_bucket,+Inf"] == found["a_seconds_count"] == 6
    assert math.isclose(found["a_seconds_sum"], 200.9021)


def test_files_of_servers_that_ended_are_removed(
    own: Numbers, tmp_path: Path
) -> None:
    # Given a file that nobody has, and one that somebody has
    directory = tmp_path / "heartbeats"
    directory.mkdir(mode=0o700)
    (directory / "metrics.web-1-00000000.0").write_bytes(bytes(8))
    other = sibling(own)
    other.share("worker")
    beat = directory / "worker.1"
    beat.touch()

    own.share("web")

    names = {path.name.partition("-")[0] for path in directory.iterdir()}
    assert names == {"metrics", "metrics.web", "metrics.worker", "worker.1"}
    assert not (directory / "metrics.web-1-00000000.0").exists()


def test_a_full_disk_is_an_error_and_numbers_stay_in_memory(
    own: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter("a_total", "A.")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        own.share("web")
    counter.add()

    assert samples(counter, own) == {"a_total": 1}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return what a process tells that has counted nothing."""
    monkeypatch.undo()
    return generate_latest(counted())


def test_prometheus_can_read_it(told: bytes) -> None:
    found = {
        family.name: family
        for family in text_string_to_metric_families(told.decode())
    }

    assert len(found) == len(catalogue.ALL)
    for family in found.values():
        assert family.documentation.endswith(".")
        assert family.name.startswith("timers_")


def test_no_label_has_a_value_that_others_choose(told: bytes) -> None:
    text = told.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.keys() <= LABELS
    # Each value of each label is there before anything was counted.
    assert len(text.splitlines()) < 200


def test_every_outcome_can_be_counted() -> None:
    assert all(catalogue.ENDED.knows(outcome) for outcome in Outcome)
