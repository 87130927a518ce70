"""What `make bench` counts as wrong, and what its table says."""

import json
import math

import pytest

from tests.load.bench import measures, table
from tests.load.bench.receiver import Call
from tests.load.bench.run import MACHINE, SERVICE, Figures, Run, Sizes

ON_TIME = [Call("a", 10.0, 10.001), Call("b", 10.0, 10.003)]


@pytest.mark.parametrize(
    ("calls", "wrong"),
    [
        (ON_TIME, (0, 0, 0)),
        (ON_TIME[:1], (1, 0, 0)),
        ([*ON_TIME, Call("b", 10.0, 11.0)], (0, 1, 0)),
        ([*ON_TIME, Call("an earlier phase's", 9.0, 8.0)], (0, 0, 0)),
        ([ON_TIME[0], Call("b", 10.0, 9.999)], (0, 0, 1)),
        ([], (2, 0, 0)),
    ],
)
def test_every_call_must_come_once_and_not_early(
    calls: list[Call], wrong: tuple[int, int, int]
) -> None:
    found = measures.counted({"a", "b"}, calls)
    assert (found.missing, found.twice, found.early) == wrong


def test_quantiles_of_lateness() -> None:
    calls = [Call(str(n), 0.0, n / 1000) for n in range(1, 201)]
    found = measures.counted(200, calls)
    quantiles = [found.late(share) for share in (0.0, 0.5, 0.99, 1.0)]
    assert quantiles == pytest.approx([1, 100, 198, 200])
    assert math.isnan(measures.counted({"a"}, []).late(0.5))


def test_a_burst_is_due_within_one_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    for data in measures.due_together(500, 1007.0, "http://127.0.0.1/"):
        body = json.loads(data.split(b"\r\n\r\n")[1])
        assert 1007 <= now + body["seconds"] < 1008
        now += 0.0119       # at the end 1005.95: a second before it


def test_the_table_divides_each_figure_by_its_base() -> None:
    results = {
        MACHINE: Figures({"receiver": 20_000}),
        "ceiling": Figures({"far": 5500}),
        SERVICE: Figures({
            "far": 2500, "far limit": 5000,
            "burst": 1600, "burst limit": 4000, "burst last": 6.25,
        }),
        "celery": Figures({
            "burst": 1000, "burst limit": 2500, "burst last": 50,
        }),
    }
    titles = {name: name for name in results if name != MACHINE}
    results["celery"].failures.append("it ended")
    text = table.markdown(Run(Sizes(), results, titles, ""))
    assert "| 5,500 | 2,500 (×0.50) | – |" in text
    assert "| – | 1,600 (×0.40) | 1,000 (×0.40) |" in text
    assert "| – | 6.2 | 50.0 (×8.00) |" in text
    assert "celery could not be measured to the end: it ended" in text
