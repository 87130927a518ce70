"""Finding timers of all accounts, for operators: by id, key or label.

Each account is looked at by itself, since all indexes begin with it.
"""

from typing import Any
from uuid import UUID

from apps.core.database import Connection, list_pool

# All that begin with a text: it, and what comes before the text that is next
# to all of them. No character comes after U+10FFFF.
BY_KEY = """
SELECT found.id
FROM account CROSS JOIN LATERAL (
    SELECT id FROM timer
    WHERE account_id = account.id
      AND key COLLATE "C" BETWEEN %(key)s AND %(last)s
    ORDER BY key COLLATE "C" LIMIT %(limit)s
) AS found
LIMIT %(limit)s
"""

BY_LABEL = """
SELECT found.timer_id
FROM account CROSS JOIN LATERAL (
    SELECT timer_id FROM timer_label
    WHERE account_id = account.id AND name = %(name)s AND value = %(value)s
    ORDER BY due_at DESC LIMIT %(limit)s
) AS found
LIMIT %(limit)s
"""


def search(text: str, limit: int) -> list[UUID]:
    """Return ids for an id, a key, its beginning and `*`, or `name:value`.

    For an id it is that, whether there is such a timer or not. A text may be
    a key and a label. Raises psycopg.errors.QueryCanceled, or
    `database.Busy`, when it would take too long.
    """
    try:
        return [UUID(text)]
    except ValueError:
        pass
    name, colon, value = text.partition(":")
    begins = text.removesuffix("*") if text.endswith("*") else None
    key = {
        "key": text if begins is None else begins,
        "last": text if begins is None else f"{begins}\U0010ffff",
        "limit": limit,
    }
    label = {"name": name, "value": value, "limit": limit}
    with list_pool().connection() as connection:
        found = _ids(connection, BY_KEY, key)
        if colon:
            found += _ids(connection, BY_LABEL, label)
    return list(dict.fromkeys(found))[:limit]


def _ids(
    connection: Connection, query: str, values: dict[str, Any]
) -> list[UUID]:
    return [row[0] for row in connection.execute(query, values).fetchall()]
