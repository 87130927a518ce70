"""The admin's lists of timers are index scans, whatever is searched for."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.core.database import connect
from apps.dashboard.admin.lists import MOST
from apps.timers.storage import searching
from tests.integration.timers.storage.test_finding_plans import fill

#: From 3,000 rows on, Postgres uses the indexes.
COUNT = 20_000

QUERIES = {
    "the latest": "", "the last page": "p=20", "an id": "q={id}",
    "no id": "q=01a21bd8-6054-705a-b288-d4e597a0b251",
    "a key": "q=order-400", "many with a key": "q=job",
    "the beginning of a key": "q=order-*", "no key": "q=nothing",
    "a rare label": "q=user:4711", "a label of a third": "q=kind:mail",
    "no label": "q=kind:nothing",
}


def test_a_list_reads_a_thousand_rows_at_most(
    new_pool: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(COUNT)
    client = Client()
    client.force_login(User.objects.create_user("reader", is_staff=True))
    run = searching._ids
    plans: list[str] = []

    def explained(reading: Any, query: str, values: Any = None) -> None:
        rows = reading.execute(
            f"EXPLAIN (ANALYZE, TIMING off) {query}", values
        ).fetchall()
        plans.append("\n".join(line for (line,) in rows))

    def watched(reading: Any, query: str, values: Any) -> Any:
        explained(reading, query, values)
        return run(reading, query, values)

    monkeypatch.setattr(searching, "_ids", watched)
    with connect() as reading:
        row = reading.execute("SELECT id FROM timer LIMIT 1").fetchone()
        assert row
        for name, query in QUERIES.items():
            with CaptureQueriesContext(connection) as queries:
                answer = client.get(
                    f"/admin/timers/timer/?{query.format(id=row[0])}"
                )
            assert answer.status_code == 200, name
            for each in queries:
                if 'FROM "timer"' in each["sql"]:
                    explained(reading, each["sql"])
    assert len(plans) > len(QUERIES)
    for plan in plans:
        assert "Seq Scan on timer" not in plan, plan
        read = re.findall(r"actual rows=([0-9]+)", plan)
        assert read, plan
        assert max(map(int, read)) <= MOST, plan
