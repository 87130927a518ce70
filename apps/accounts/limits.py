"""Limits of accounts: what they are, and who has some.

Timers are charged where they are stored (`apps.timers.storage.limiting`). An
account without limits has no row here, and is not charged.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from apps.accounts.log import LoggedChange
from apps.core.batching import GroupCommit
from apps.core.database import pool
from apps.core.remembered import LIFETIME, Remembered
from apps.core.rows import named

#: How many accounts a process remembers, at most.
_MOST = 20_000
#: How long a request waits for Postgres, in seconds.
_PATIENCE = 3.0

LOOK_UP = """
SELECT account_id, outstanding, creates_per_second, burst, body_bytes
FROM account_limit WHERE account_id = ANY(%(accounts)s)
"""

ALL = """
SELECT account_id, outstanding, creates_per_second, burst, body_bytes
FROM account_limit
"""

# The bucket is filled. The next create counts the timers anew.
SET = """
INSERT INTO account_limit (account_id, outstanding, creates_per_second, burst,
                           body_bytes, tokens, filled_at)
VALUES (%(account)s, %(outstanding)s, %(creates_per_second)s, %(burst)s,
        %(body_bytes)s, coalesce(%(burst)s, 0), clock_timestamp())
ON CONFLICT (account_id) DO UPDATE
SET outstanding = excluded.outstanding,
    creates_per_second = excluded.creates_per_second,
    burst = excluded.burst,
    body_bytes = excluded.body_bytes,
    tokens = excluded.tokens,
    filled_at = excluded.filled_at,
    room = NULL
"""

REMOVE = "DELETE FROM account_limit WHERE account_id = %(account)s"


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that an account may have; None: no limit.

    outstanding         timers that have not ended
    creates_per_second  timers that it sets, on average
    burst               timers that it sets at once, after a pause
    body_bytes          of a request that sets or changes a timer
    """

    outstanding: int | None = None
    creates_per_second: int | None = None
    burst: int | None = None
    body_bytes: int | None = None


NONE = Limits()


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of an account's limits; None: there is no such limit.

    outstanding, burst  the limits
    creates_per_second  with `burst`
    room                how many more timers there may be, at least
    tokens              how many timers can be set at once
    wait                seconds until the first that is used up may not be
    """

    outstanding: int | None
    creates_per_second: int | None
    burst: int | None
    room: int | None
    tokens: int | None
    wait: float

    @property
    def exceeded(self) -> Literal["outstanding", "creates"] | None:
        """The limit that is used up; None if there is none."""
        if self.room == 0:
            return "outstanding"
        return "creates" if self.tokens == 0 else None

    @property
    def seconds(self) -> int:
        """After how many seconds, from 1, to try again."""
        return max(1, math.ceil(self.wait))

    @property
    def refusal(self) -> str:
        """Which limit does not let a timer through, and what to do."""
        if self.exceeded == "creates":
            return (
                f"The account may set {self.creates_per_second:,} timers a"
                f" second, and {self.burst:,} at once. Send it again in"
                f" {self.seconds} s."
            )
        return (
            f"The account may have {self.outstanding:,} timers that have not"
            f" ended, and has room for {self.room:,} more. Cancel some, or"
            " send it again when some have ended."
        )


_standings: dict[int, Standing] = {}

_known: Remembered[int, Limits] = Remembered(_MOST)
#: Returns what limits_of() does, None if Postgres has to be asked.
remembered = _known.get


def limits_of(account: int) -> Limits:
    """Return an account's limits, as they were 2 s ago or later.

    It is NONE itself if there are none. Raises `database.UNAVAILABLE` or
    TimeoutError.
    """
    if (known := remembered(account)) is not None:
        return known
    now = time.monotonic()
    found = _look_ups.submit(account, timeout=_PATIENCE)
    if found is NONE:
        _standings.pop(account, None)
    _known.keep(account, found, now + LIFETIME)
    return found


def forget() -> None:
    """Forget what was read of all accounts."""
    _known.forget()
    _standings.clear()


def note_standing(account: int, standing: Standing) -> None:
    """Note what is left to an account, for the headers of answers."""
    _standings[account] = standing


def standing_of(account: int) -> Standing | None:
    """Return what was left when this process last charged an account.

    None if it has no limits.
    """
    return _standings.get(account)


def all_limits() -> dict[int, Limits]:
    """Return the limits of all accounts that have some, by their ids."""
    return _read(ALL)


def set_limits(
    account: int, limits: Limits, logged: LoggedChange | None = None
) -> None:
    """Store an account's limits.

    Processes know of them after LIFETIME. From then on they are held.
    """
    values = asdict(limits) | {"account": account}
    with pool().connection() as connection, connection.transaction():
        connection.execute(REMOVE if limits == NONE else SET, values)
        if logged:
            logged.log(connection)


def _look_up(accounts: Sequence[int]) -> list[Limits]:
    found = _read(LOOK_UP, accounts=list(accounts))
    return [found.get(account, NONE) for account in accounts]


def _read(query: str, **values: Any) -> dict[int, Limits]:
    with pool().connection() as connection:
        rows = named(connection.execute(query, values))
    return {row.pop("account_id"): Limits(**row) for row in rows}


_look_ups: GroupCommit[int, Limits] = GroupCommit(_look_up)
