"""Charging accounts that have limits for the timers they set.

Whoever stores a group of timers first locks the rows of their accounts'
limits, and writes at the end what is left. The lock is held until the timers
are committed. So whoever counts an account's timers, under the same lock, sees
all that were charged, and no crash makes the two differ.

What ends a timer writes nothing here. `room` is how many more timers there may
be at least; they are counted anew only when it is used up.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from apps.accounts.limits import NONE, Limits, Standing, note_standing
from apps.core.database import Connection, pool
from apps.core.rows import Row, named
from apps.timers.storage import creating
from apps.timers.storage.reading import STATUS
from apps.timers.storage.records import NamedTimer, NewTimer

#: After a count, the pause until the next one for each timer that an account
#: may have. Counting takes a tenth of that (docs/decisions/0035).
PAUSE = timedelta(microseconds=10)
#: With a higher limit, timers are not counted to show how many there are.
MOST_SHOWN = 100_000

# Each row's clock is read when its lock is there.
LOCK = """
WITH held AS MATERIALIZED (
    SELECT * FROM account_limit WHERE account_id = ANY(%(accounts)b)
    ORDER BY account_id
    FOR UPDATE
)
SELECT account_id, outstanding, creates_per_second, burst, tokens, filled_at,
       room, counted_at, clock_timestamp() AS now
FROM held
"""

LOOK = """
SELECT outstanding, creates_per_second, burst, body_bytes,
       floor(least(burst, tokens + creates_per_second * greatest(0,
           extract(epoch FROM clock_timestamp() - filled_at)
       )))::integer AS creates_left
FROM account_limit WHERE account_id = %(account)s
"""

# The first part is an index scan for the account; the second one reads the
# calls under way of all accounts. LIMIT ends it at the limit.
COUNT = f"""
SELECT count(*) FROM (
    SELECT FROM timer
    WHERE account_id = %(account)s
      AND (outcome IS NOT NULL OR fired_at IS NULL
           OR fired_at IS NOT NULL AND leased_until IS NULL)
      AND ({STATUS}) COLLATE "C"
          IN ('scheduled', 'deferred', 'retrying', 'firing')
    UNION ALL
    SELECT FROM timer
    WHERE account_id = %(account)s AND leased_until IS NOT NULL
      AND fired_at IS NOT NULL AND outcome IS NULL
    LIMIT %(most)s
) AS living
"""

KEEP = """
UPDATE account_limit
SET tokens = given.tokens, filled_at = now, room = given.room,
    counted_at = given.counted_at
FROM unnest(%(accounts)b::integer[], %(tokens)b::float[],
            %(now)b::timestamptz[], %(room)b::bigint[],
            %(counted_at)b::timestamptz[])
     AS given (account_id, tokens, now, room, counted_at)
WHERE account_limit.account_id = given.account_id
"""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not stored: a limit of the account is used up."""

    account: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class LimitsLeft:
    """An account's limits, and what is left of them.

    outstanding_now  how many timers have not ended; None: not counted
    creates_left     how many can be set at once; None: without a limit
    """

    limits: Limits
    outstanding_now: int | None
    creates_left: int | None


class LimitReached(Exception):
    """A limit does not let it through; `args` has what was Refused."""


class _Budget:
    """What one account may still store; its row is locked."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.room: int | None = row["room"]
        self.tokens: float = row["tokens"]
        self.is_changed = False
        if row["burst"] is not None:
            passed = (row["now"] - row["filled_at"]).total_seconds()
            self.tokens += max(0.0, passed) * row["creates_per_second"]
            self.tokens = min(self.tokens, row["burst"])

    def make_room(self, connection: Connection, wanted: int) -> None:
        """Count the account's timers, if there may be room for more."""
        row, most = self.row, self.row["outstanding"]
        if most is None or (self.room is not None and self.room >= wanted):
            return
        if self.room is None or row["now"] >= row["counted_at"] + most * PAUSE:
            living = count(connection, row["account_id"], most)
            self.room = most - living
            row["counted_at"] = row["now"]
            self.is_changed = True

    def has_token(self) -> bool:
        return self.row["burst"] is None or self.tokens >= 1

    def change(self, *, room: int, tokens: int) -> None:
        self.is_changed = True
        if self.room is not None:
            self.room += room
        if self.row["burst"] is not None:
            self.tokens += tokens

    def standing(self) -> Standing:
        row, tokens, wait = self.row, None, 0.0
        if row["burst"] is not None:
            tokens = int(self.tokens)
            wait = max(0.0, (1 - self.tokens) / row["creates_per_second"])
        if self.room == 0:
            again = row["counted_at"] + row["outstanding"] * PAUSE
            wait = max(wait, (again - row["now"]).total_seconds())
        return Standing(
            row["outstanding"], row["creates_per_second"], row["burst"],
            self.room, tokens, wait,
        )


class Budgets:
    """What accounts may still store, until the transaction ends.

    Accounts without limits may store everything.
    """

    def __init__(
        self, connection: Connection, wanted: Mapping[int, int]
    ) -> None:
        """Lock limits of accounts; `wanted` has how many timers each sets."""
        self._connection = connection
        self._found: dict[int, _Budget] = {}
        if not wanted:
            return
        cursor = connection.execute(LOCK, {"accounts": list(wanted)})
        for row in named(cursor):
            account = row["account_id"]
            self._found[account] = budget = _Budget(row)
            budget.make_room(connection, wanted[account])

    def take(self, account: int) -> bool:
        """Charge an account for a timer; False if a limit is used up."""
        budget = self._found.get(account)
        if budget is None:
            return True
        if budget.room == 0 or not budget.has_token():
            return False
        budget.change(room=-1, tokens=-1)
        return True

    def give_back(self, account: int) -> None:
        """Charge an account for one timer less: it was not stored."""
        if account in self._found:
            self._found[account].change(room=1, tokens=1)

    def within(
        self,
        timers: Sequence[NamedTimer],
        store: Callable[[Sequence[NamedTimer]], Iterable[NamedTimer]],
    ) -> Sequence[NamedTimer]:
        """Store what is within the limits; return the others.

        `store` returns what it has not stored. That is not charged, and others
        have its place.
        """
        left = timers
        while left:
            taken: list[NamedTimer] = []
            others: list[NamedTimer] = []
            for each in left:
                is_taken = self.take(each.timer.account)
                (taken if is_taken else others).append(each)
            if not taken:
                break
            for each in store(taken):
                self.give_back(each.timer.account)
            left = others
        return left

    def take_room(self, account: int, number: int) -> bool:
        """Charge an account for timers that are opened again.

        False if it has not room for all of them.
        """
        budget = self._found.get(account)
        if budget is None or budget.room is None:
            return True
        if number > budget.room:
            return False
        budget.change(room=-number, tokens=0)
        return True

    def refused(self, account: int) -> Refused:
        """Return why an account's timer is not stored."""
        return Refused(account, self._found[account].standing())

    def keep(self) -> None:
        """Write what is left, to be committed with the timers."""
        for account, budget in self._found.items():
            note_standing(account, budget.standing())
        changed = [each for each in self._found.values() if each.is_changed]
        if changed:
            self._connection.execute(KEEP, {
                "accounts": [each.row["account_id"] for each in changed],
                "tokens": [each.tokens for each in changed],
                "now": [each.row["now"] for each in changed],
                "room": [each.room for each in changed],
                "counted_at": [each.row["counted_at"] for each in changed],
            })


def create(timers: Sequence[NewTimer]) -> list[float | Refused]:
    """Store timers within their accounts' limits; like `creating.create`."""
    taken: list[NewTimer] = []
    due: list[float] = []
    with pool().connection() as connection:
        began = time.monotonic()
        with connection.transaction():
            wanted = Counter(timer.account for timer in timers)
            budgets = Budgets(connection, wanted)
            taken = [
                timer for timer in timers if budgets.take(timer.account)
            ]
            if taken:
                now = creating.store(connection, taken)
            budgets.keep()
        if taken:
            due = creating.due(connection, taken, now, began)
    stored = dict(zip((timer.id for timer in taken), due, strict=True))
    return [
        stored.get(timer.id) or budgets.refused(timer.account)
        for timer in timers
    ]


def wanted(timers: Iterable[NamedTimer]) -> Counter[int]:
    """Return how many timers each account wants to store."""
    return Counter(each.timer.account for each in timers)


def count(connection: Connection, account: int, most: int) -> int:
    """Return how many timers of an account have not ended, up to `most`."""
    values = {"account": account, "most": most}
    row = connection.execute(COUNT, values).fetchone()
    assert row is not None
    return int(row[0])


def look(account: int) -> LimitsLeft:
    """Return an account's limits, and what is left of them."""
    with pool().connection() as connection:
        found = named(connection.execute(LOOK, {"account": account}))
        if not found:
            return LimitsLeft(NONE, None, None)
        (row,) = found
        creates_left = row.pop("creates_left")
        limits, living = Limits(**row), None
        if limits.outstanding is not None and limits.outstanding <= MOST_SHOWN:
            living = count(connection, account, limits.outstanding)
    return LimitsLeft(limits, living, creates_left)
