"""What readiness says of processes, given what they wrote."""

import pytest

from apps.monitoring.processes import Row, judge

WELL = Row("worker", "a:1", 2, 3)
TROUBLED = Row("worker", "b:2", 2, 3, "a row is bad")
FAILING = Row("worker", "c:3", 2, 20, "taking over: Broken")
HANGING = Row("worker", "d:4", 2, 20)
KILLED = Row("worker", "e:5", 40, 41)
OTHER = Row("dispatcher", "f:6", 2, 3)


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([], []),
        ([WELL], []),
        ([WELL, OTHER], []),
        # One that went without a word is not missed beside another.
        ([WELL, KILLED], []),
        ([KILLED], ["no worker was heard of for 40 s"]),
        ([KILLED, Row("worker", "g:7", 60, 61, "x")],
         ["no worker was heard of for 40 s"]),
        ([KILLED, OTHER], ["no worker was heard of for 40 s"]),
        ([WELL, TROUBLED], ["worker b:2: a row is bad"]),
        ([WELL, FAILING],
         ["worker c:3 last worked well 20 s ago: taking over: Broken"]),
        ([HANGING], ["worker d:4 last worked well 20 s ago"]),
        # That nobody runs any more in another shape of the service.
        ([WELL, Row("dispatcher", "h:8", 400, 400)], []),
    ],
)
def test_who_is_unwell(rows: list[Row], wrong: list[str]) -> None:
    assert judge(rows, ["worker"]) == wrong
