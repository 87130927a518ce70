"""A mark is written whenever it comes."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from apps.timers.firing import claims
from apps.timers.storage import claiming
from apps.timers.storage.claim_records import Mark
from tests.support.waiting import eventually


def test_a_mark_that_comes_after_the_end_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a process whose worker has shut down
    written: list[Mark] = []
    monkeypatch.setattr(claiming, "mark_sent", written.extend)
    claims.mark_writer()
    claims.close_mark_writer()

    # When a call that outlived it leaves
    mark = Mark(uuid4(), uuid4(), datetime.now(UTC))
    claims.mark_writer().add(mark)

    # Then its mark is written
    eventually(lambda: written == [mark])
    claims.close_mark_writer()
