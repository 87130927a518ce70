"""What must be true of the rows of a timer's attempts."""

from tests.model.life import TICK, Grant, Life, Try, must
from tests.model.postgres import Row, seconds


def check_attempts(life: Life, rows: list[Row]) -> None:
    """Check for one true row for each try that ended, and none besides."""
    numbers = sorted(row["number"] for row in rows)
    must(
        numbers == sorted(life.tries),
        f"attempts {numbers} are kept of the tries {sorted(life.tries)}",
    )
    for row in rows:
        ended = life.tries[row["number"]]
        must(
            abs(seconds(row["due_at"]) - ended.due) <= TICK,
            "an attempt's due time is wrong",
        )
        if ended.told:
            _check_told(row, ended.grant)
        else:
            _check_presumed(row, ended)


def _check_presumed(row: Row, ended: Try) -> None:
    """Check what is kept of a try whose worker died."""
    error = row["error"] or ""
    must(row["status_code"] is None, "an answer was made up")
    if row["sent_at"] is None:
        must(not ended.marked, "an attempt forgot that it was sent")
        must(error.startswith("worker_lost"), "an attempt's error is wrong")
    else:
        must(ended.grant.sent, "an attempt was never sent")
        must(error.startswith("unknown"), "an attempt's error is wrong")


def _check_told(row: Row, grant: Grant) -> None:
    """Check what its worker has told of a try."""
    result, sent_at = grant.result, row["sent_at"]
    assert result is not None
    must(row["status_code"] == result.status_code, "a status is wrong")
    must(row["error"] == result.error, "an attempt's error is wrong")
    must((sent_at is not None) == grant.sent, "whether it was sent is wrong")
    if grant.left_at is not None:
        must(
            grant.left_at - TICK <= seconds(sent_at) <= grant.noted_at + TICK,
            "the time of sending is wrong",
        )
