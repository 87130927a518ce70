"""Whether a database can serve at all, once it answers."""

from apps.core.database import Connection

# The server compares: with another encoding, its text would come as bytes.
_QUERY = """
SELECT current_setting('server_encoding') = 'UTF8',
       convert_to(current_setting('server_encoding'), 'UTF8'),
       current_setting('transaction_read_only')::boolean,
       pg_is_in_recovery()
"""


def unfit(connection: Connection) -> str | None:
    """Return why the database can't serve, with the fix; None if it can.

    Raises `database.UNAVAILABLE` when it can't be asked.
    """
    row = connection.execute(_QUERY).fetchone()
    assert row is not None
    is_utf8, encoding, is_read_only, is_standby = row
    if not is_utf8:
        return (
            f"the database's encoding is {bytes(encoding).decode()}: make one"
            " with ENCODING 'UTF8' TEMPLATE template0"
        )
    if is_standby:
        return (
            "the server is a standby, which takes no writes: let DATABASE_URL"
            " lead to the primary (target_session_attrs=read-write)"
        )
    if is_read_only:
        return (
            "the database is read-only: set default_transaction_read_only"
            " to off on its role, its database and its server"
        )
    return None
