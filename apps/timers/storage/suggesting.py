"""What an account's timers have: hosts, keys and labels, for a form.

Each statement hops through an index from one value to the next. So it reads
about as many entries as it returns values, however many timers there are.
"""

from apps.core.database import Connection, list_pool
from apps.core.rows import named
from apps.timers.storage.finding import NOT_LEASED
from apps.timers.storage.reading import STATUS

#: Values that are suggested at once.
MOST = 20

#: Most hosts have timers that wait, or that have ended in one of these ways.
_STATUSES = ("scheduled", "delivered", "failed")


def _hops(column: str, table: str, where: str) -> str:
    """Return a query of a column's first values from a beginning on."""

    def following(bound: str) -> str:
        return f"""
            SELECT {column} FROM {table}
            WHERE account_id = %(account)s AND {where} AND {column} {bound}
            ORDER BY {column} LIMIT 1
        """

    return f"""
        WITH RECURSIVE found (value, number) AS (
            (SELECT ({following(">= %(beginning)s")}), 1)
            UNION ALL
            SELECT ({following("> found.value")}), number + 1 FROM found
            WHERE found.value IS NOT NULL AND number < %(most)s
        )
        SELECT value FROM found WHERE value IS NOT NULL
    """


HOSTS = [
    _hops(
        'host COLLATE "C"', "timer",
        f"""{NOT_LEASED} AND ({STATUS}) COLLATE "C" = '{status}'""",
    )
    for status in _STATUSES
]
KEYS = [_hops('key COLLATE "C"', "timer", "key IS NOT NULL")]
NAMES = [_hops("name", "timer_label", "true")]
VALUES = [_hops("value", "timer_label", "name = %(name)s")]


def hosts(account: int, beginning: str) -> list[str]:
    """Return hosts that begin so; most of them, if there are many."""
    return _suggest(HOSTS, account, beginning)


def keys(account: int, beginning: str) -> list[str]:
    """Return keys that begin so."""
    return _suggest(KEYS, account, beginning)


def labels(account: int, beginning: str) -> list[str]:
    """Return names of labels that begin so; after a name, its values."""
    name, colon, value = beginning.partition(":")
    if not colon:
        names = _suggest(NAMES, account, name)
        return [f"{each}:" for each in names]
    values = _suggest(VALUES, account, value, name)
    return [f"{name}:{each}" for each in values]


def _suggest(
    queries: list[str], account: int, beginning: str, name: str = ""
) -> list[str]:
    """Return the first values; raise as `finding.find` does."""
    values = {
        "account": account, "beginning": beginning, "name": name,
        "most": MOST,
    }
    with list_pool().connection() as connection:
        found = {
            value
            for query in queries
            for value in _values(connection, query, values)
            if value.startswith(beginning)
        }
    return sorted(found)[:MOST]


def _values(
    connection: Connection, query: str, values: dict[str, object]
) -> list[str]:
    return [row["value"] for row in named(connection.execute(query, values))]
