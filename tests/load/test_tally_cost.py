"""What a tally costs Postgres beside its record (`-m load -s`).

Statements read a group's reports as a record does, and write one row, so that
each has a commit. They differ in how they note the reports for the roll-ups.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import pytest

from apps.core.database import connect
from apps.timers.storage import recording

pytestmark = [
    pytest.mark.load, pytest.mark.timeout(600),
    pytest.mark.usefixtures("db_pool"),
]

#: How large a group is, and how often it is written in a round.
GROUPS = {1: 400, 8: 200, 50: 80}
ROUNDS = 25

TABLES = """
CREATE TABLE base (n integer);
CREATE TABLE arrays (
    at timestamptz, accounts integer[], hosts text[], outcomes text[],
    due_at timestamptz[], sent_at timestamptz[], durations interval[],
    status_codes smallint[], errors text[], held uuid[]
) WITH (toast_tuple_target = 8160);
CREATE TABLE packed (at timestamptz, reports bytea, held uuid[])
    WITH (toast_tuple_target = 8160);
ALTER TABLE packed ALTER reports SET STORAGE EXTERNAL
"""
_HELD = """
    CASE WHEN (SELECT count(*) FROM held) < cardinality(%(tokens)b::uuid[])
         THEN ARRAY(SELECT token FROM held) END
"""
#: How reports are noted. Only those count that were held.
NOTES = {
    "nothing": "",
    "a row each": recording._TALLY,
    "a row each, without what it says": """
        INSERT INTO tally (at, account_id) SELECT now(), account_id FROM held
    """,
    "arrays, made by Postgres": """
        INSERT INTO arrays (at, accounts, hosts, outcomes, due_at, sent_at,
                            durations, status_codes, errors)
        SELECT now(), array_agg(account_id), array_agg(host),
               array_agg(outcome), array_agg(due_at), array_agg(sent_at),
               array_agg(duration), array_agg(status_code), array_agg(error)
        FROM held HAVING count(*) > 0
    """,
    "arrays, given by the worker": f"""
        INSERT INTO arrays
        SELECT now(), %(accounts)b, %(hosts)b, %(outcome)b, %(due_at)b,
               %(sent_at)b, %(duration)b, %(status_code)b, %(error)b, {_HELD}
    """,
    "packed by the worker": f"""
        INSERT INTO packed SELECT now(), %(packed)b, {_HELD}
    """,
    "packed, also what was not held": """
        INSERT INTO packed SELECT now(), %(packed)b
    """,
}
STATEMENT = """
WITH held AS MATERIALIZED (
    SELECT given.*, 1 AS account_id
    FROM unnest((SELECT %(tokens)b::uuid[]), %(outcome)b::text[],
                %(number)b::integer[], %(due_at)b::timestamptz[],
                %(sent_at)b::timestamptz[], %(status_code)b::smallint[],
                %(error)b::text[], %(duration)b::interval[],
                %(hosts)b::text[])
         AS given (token, outcome, number, due_at, sent_at, status_code,
                   error, duration, host)
),
written AS (INSERT INTO base SELECT 1)
"""


def values(size: int) -> dict[str, Any]:
    """Return a group's reports."""
    now = datetime.now(UTC)
    report = {
        "outcome": "delivered", "number": 1, "due_at": now, "sent_at": now,
        "status_code": 200, "error": None, "accounts": 1,
        "duration": timedelta(milliseconds=3), "hosts": "hooks.example.com",
    }
    return {name: [value] * size for name, value in report.items()} | {
        "tokens": [uuid4() for _ in range(size)],
        "packed": os.urandom(24 * size),
    }


def test_the_cost_of_a_tally() -> None:
    statements = {
        name: f"{STATEMENT}{note and f', noted AS ({note})'}"
        " SELECT token FROM held"
        for name, note in NOTES.items()
    }
    connection = connect()
    connection.autocommit = True
    connection.execute(TABLES)
    clock = Path(f"/proc/{connection.info.backend_pid}/schedstat")

    def spent() -> float:
        """Return Postgres's processor time, in microseconds."""
        return int(clock.read_text().split()[0]) / 1000

    def clear() -> None:
        """Leave room in the tables, as there is when they are in use."""
        for table in "base", "tally", "arrays", "packed":
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"VACUUM (TRUNCATE false) {table}")
        connection.execute("CHECKPOINT")

    for size, times in GROUPS.items():
        group = values(size)
        took: dict[str, list[float]] = {name: [] for name in NOTES}
        for number in range(ROUNDS + 2):
            clear()
            for name in [*NOTES][::1 if number % 2 else -1]:
                before = spent()
                for _ in range(times):
                    connection.execute(statements[name], group)
                took[name].append((spent() - before) / times / size)
        print(f"\nµs a report in groups of {size}, and more than nothing:")
        for name, each in took.items():
            more = median(
                one - none
                for one, none in zip(each[2:], took["nothing"][2:],
                                     strict=True)
            )
            print(f"{median(each[2:]):7.2f} {more:+7.2f}  {name}")
    connection.close()
