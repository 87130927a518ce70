"""Rows that the API would never have stored, and what they end with."""

from uuid import UUID

from apps.core.database import pool

#: SQL that spoils a waiting timer's row; its `error` then says what is wrong.
#: All but `url` are seen when the row is claimed.
POISONS = {
    "counter": ("attempts = 2147483647", "attempts"),
    "claims": ("claims = 2147483647", "integer out of range"),
    "policy": ("retry = '{\"x\": 1}'", "retry"),
    "policy of texts": (
        "retry = '{\"max_attempts\": \"3\", \"min_delay\": 1,"
        " \"max_delay\": 2, \"unanswered\": false}'",
        "retry",
    ),
    "policy of a long number": (
        "retry = ('{\"max_attempts\": 1' || repeat('0', 5000) || '}')::jsonb",
        "",
    ),
    "list of headers": ("headers = '[1]'", "headers"),
    "header that is a number": ("headers = '{\"a\": 1}'", "headers"),
    "deep headers": (
        "headers = (repeat('[', 3000) || repeat(']', 3000))::jsonb", ""
    ),
    "url": ("url = 'nonsense'", "url"),
    "method": ("method = E'GET /other HTTP/1.1\\r\\nx:'", "method"),
    "no end": ("due_at = 'infinity'", "timestamp"),
    "before Christ": ("due_at = '0044-03-15 12:00 BC'", "timestamp"),
    "no beginning": ("next_at = '-infinity'", "timestamp"),
    "replayed for ever": (
        "replayed_at = 'infinity', max_lateness = '1 s'", "timestamp"
    ),
    "long lateness": ("max_lateness = '1000000 years'", ""),
    "created for ever": ("created_at = 'infinity'", "timestamp"),
    "tried for ever": ("retry_until = 'infinity'", "timestamp"),
    "tried since ever": ("retry_until = '-infinity'", "timestamp"),
    "tried for years": ("retry_until = now() + '9 years'", "retry_until"),
    "fewer attempts than none": ("attempts = -2147483648", "attempts"),
    "fewer claims than none": ("attempts = 9, claims = -5", "claims"),
    "fewer retries than none": ("retries = -2147483648", "retries"),
    "fewer failures than none": (
        "connect_failures = -2147483648", "connect_failures"
    ),
}

#: SQL that spoils a claim's row, and what its timer's row has to show soon,
#: although its worker is dead.
STUCK_CLAIMS = {
    "endless lease": ("leased_until = 'infinity'", "outcome IS NULL"),
    "lease of a year": (
        "leased_until = now() + '1 year'", "outcome IS NULL"
    ),
    "lease since ever": ("leased_until = '-infinity'", "outcome IS NULL"),
    "no lease": ("leased_until = NULL", "outcome IS NULL"),
    "no lease, sent": (
        "leased_until = NULL, sent_at = now()", "outcome = 'unknown'"
    ),
    "no holder": (
        "claim_token = NULL, leased_until = NULL", "outcome IS NULL"
    ),
    "fired in the future": (
        "fired_at = 'infinity', leased_until = 'infinity'", "outcome IS NULL"
    ),
    "fired since ever": (
        "fired_at = '-infinity', leased_until = NULL", "outcome IS NULL"
    ),
    "sent for ever": (
        "sent_at = 'infinity', leased_until = 'infinity'",
        "outcome = 'unknown'",
    ),
    "sent since ever": (
        "sent_at = '-infinity', leased_until = 'infinity'", "outcome IS NULL"
    ),
    "queued for ever": (
        "queued_at = 'infinity', leased_until = 'infinity'",
        "outcome IS NULL",
    ),
    "due for ever": (
        "due_at = 'infinity', next_at = 'infinity', leased_until = NULL,"
        " queued_at = now()",
        "outcome = 'failed'",
    ),
    "claimed too often": (
        "claims = 2147483647, leased_until = 'infinity'", "outcome = 'failed'"
    ),
    "bad counter": (
        "attempts = 2147483647, leased_until = NULL", "outcome = 'failed'"
    ),
    "ended with a lease": (
        "outcome = 'delivered', leased_until = now() - interval '1 h'",
        "outcome = 'delivered'",
    ),
    "ended with an endless lease": (
        "outcome = 'odd', leased_until = 'infinity'", "outcome = 'odd'"
    ),
}

#: SQL that spoils the row of a timer that waits and is overdue, so that
#: none of its messages may ever come; it then ends, or is found again.
STUCK_WAITING = {
    "never due": "next_at = 'infinity'",
    "due after years": "next_at = '12000-01-01'",
    "never due, queued": "next_at = 'infinity', queued_at = now()",
    "due after years, queued": "next_at = '12000-01-01', queued_at = now()",
    "due since ever": "next_at = '-infinity'",
    "due since ever, queued": (
        "next_at = '-infinity', queued_at = now() - interval '1 h'"
    ),
    "queued for ever": "queued_at = 'infinity'",
    "queued since ever": "queued_at = '-infinity'",
    "sent for ever": "sent_at = 'infinity'",
    "leased, not fired": "leased_until = 'infinity'",
    "held, not fired": "claim_token = gen_random_uuid()",
}

#: The constraint that lets nobody write a row any more.
_SEALED = "a row that nobody can write"


def seal(timer_id: UUID) -> None:
    """Have every change of a row fail from now on, and none before."""
    with pool().connection() as connection:
        connection.execute(
            f'ALTER TABLE timer ADD CONSTRAINT "{_SEALED}"'
            f" CHECK (id <> '{timer_id}') NOT VALID"
        )


def unseal() -> None:
    """Let the sealed row be changed again, if there is one."""
    with pool().connection() as connection:
        connection.execute(
            f'ALTER TABLE timer DROP CONSTRAINT IF EXISTS "{_SEALED}"'
        )
