"""The timer table; `storage` has all SQL that reads and writes its rows."""

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Collate


class Outcome(models.TextChoices):
    """How a timer ended; NULL while it waits or is being fired."""

    DELIVERED = "delivered", "the receiver answered 2xx"
    FAILED = "failed", "another answer, or none because of a known error"
    UNKNOWN = "unknown", "the request left; whether it arrived is not known"
    MISSED = "missed", "not called: it would have been too late"
    CANCELLED = "cancelled", "deleted before it was called, or called again"


#: The outcomes of timers that gave up. These timers can be replayed.
GAVE_UP = (Outcome.FAILED, Outcome.UNKNOWN, Outcome.MISSED)

_WAITING = Q(fired_at=None, outcome=None)
_PUT_OFF = (
    Q(deferred=True) | ~Q(attempts=0) | ~Q(claims=0) | ~Q(next_at=F("due_at"))
)
_UNLEASED = Q(fired_at__isnull=False, leased_until=None)
#: `storage.reading.STATUS`, which says it for all, for an index and the admin.
STATUS = Collate(
    Case(
        When(
            outcome__in=("delivered", "unknown", "missed", "cancelled"),
            then=F("outcome"),
        ),
        When(outcome__isnull=False, then=Value("failed")),
        When(fired_at__isnull=False, then=Value("firing")),
        When(deferred=True, then=Value("deferred")),
        When(attempts=0, claims=0, then=Value("scheduled")),
        default=Value("retrying"),
        output_field=models.TextField(),
    ),
    "C",
)


class Timer(models.Model):
    """One URL to be called once, at `due_at`.

    `next_at` drives everything: claiming, promoting, sweeping and their
    indexes. It starts as `due_at`, which lateness and the API refer to.
    All times are Postgres's own clock.
    """

    # Time-ordered, so that inserts stay at one end of the index and the
    # table can be range-partitioned on it one day. No other unique
    # constraint and no foreign key may stand in the way of that.
    id = models.UUIDField(primary_key=True)
    #: Whose it is: an `accounts.models.Account`. See above for why it is no
    #: foreign key.
    account_id = models.IntegerField(db_default=1)
    url = models.TextField()
    #: The URL's host as `webhooks.target` writes it: one text for all
    #: spellings of a host. NULL if the URL can't be called.
    host = models.TextField(null=True)
    method = models.TextField(db_default="POST")
    #: The creator's headers; NULL when there are none.
    headers = models.JSONField(null=True)
    #: The bytes to send; NULL stands for the default body, or none.
    body = models.BinaryField(null=True)
    #: The id of the key that both are encrypted with; NULL: they are not.
    encrypted_with = models.TextField(null=True)
    #: A `webhooks.retry.RetryPolicy`, field by field; NULL: no retries.
    retry = models.JSONField(null=True)
    #: How long after `due_at` (or `replayed_at`) the call may still begin.
    max_lateness = models.DurationField(null=True)
    #: The caller's own name for it, and pairs to find it by.
    key = models.TextField(null=True)
    labels = models.JSONField(null=True)
    #: Goes up by one with each change that a caller makes; its ETag.
    version = models.IntegerField(db_default=1)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    next_at = models.DateTimeField()
    #: A message for it is on its way through RabbitMQ (the queue mark).
    queued_at = models.DateTimeField(null=True)
    #: When the message comes that is to be sent back if it comes early. NULL
    #: if the timer was never moved; the year 9999 if it was moved far away.
    arrives_at = models.DateTimeField(null=True)

    #: Claimed: from here on no other worker may call the URL.
    fired_at = models.DateTimeField(null=True)
    #: New with every claim; a write without it belongs to a lost claim.
    claim_token = models.UUIDField(null=True)
    #: When a claim that has reported nothing may be taken over.
    leased_until = models.DateTimeField(null=True)
    claims = models.IntegerField(db_default=0)
    #: Whether a request that left, but was not answered, is sent again
    #: when its worker died.
    at_least_once = models.BooleanField(db_default=False)

    #: How many claims ended before those that `claims` counts; the sum of
    #: both numbers the attempts.
    attempts = models.IntegerField(db_default=0)
    #: How many attempts failed and were to be retried, by `retry`.
    retries = models.IntegerField(db_default=0)
    #: How often in a row the receiver could not even be connected to, and
    #: until when that is tried again (set by the first failure).
    connect_failures = models.IntegerField(db_default=0)
    retry_until = models.DateTimeField(null=True)
    #: Whether it waits because its destination took no call.
    deferred = models.BooleanField(db_default=False)
    #: When it was last opened again, after it had given up.
    replayed_at = models.DateTimeField(null=True)

    #: When the last request's last byte left. If that was after `next_at`,
    #: the request is not sent again, unless the timer asks for that.
    sent_at = models.DateTimeField(null=True)
    #: The status of an answer that is not recorded yet.
    answered = models.SmallIntegerField(null=True)
    outcome = models.TextField(null=True, choices=Outcome.choices)
    status_code = models.SmallIntegerField(null=True)
    #: The kind of failure, then what is known of it: "refused: …".
    error = models.TextField(null=True)
    #: When what it called, and what was answered, was erased.
    erased_at = models.DateTimeField(null=True)

    class Meta:
        """Seven partial indexes; a far timer without a key is in two.

        docs/decisions/0002-indexes.md and 0026-lists.md show their plans at
        1,000,000 rows.
        """

        db_table = "timer"
        indexes = (
            models.Index(
                "next_at", name="timer_unqueued",
                condition=_WAITING & Q(queued_at=None),
            ),
            models.Index(
                "next_at", name="timer_queued",
                condition=_WAITING & Q(queued_at__isnull=False),
            ),
            models.Index(
                "leased_until", name="timer_leased",
                condition=Q(leased_until__isnull=False),
            ),
            # Empty, unless SQL by hand takes a claim's lease away.
            models.Index(
                "fired_at",
                name="timer_unleased",
                condition=Q(
                    fired_at__isnull=False, leased_until=None, outcome=None
                ),
            ),
            # Lists. All others that are scheduled stand in the first two
            # indexes, in the same order; those that fire, in the third.
            models.Index(
                "account_id", STATUS, "due_at", "id",
                name="timer_account_status",
                condition=Q(outcome__isnull=False)
                | Q(fired_at=None) & _PUT_OFF
                | _UNLEASED,
            ),
            # The status comes first: lists of what is scheduled are found
            # without the host.
            models.Index(
                "account_id", STATUS, Collate("host", "C"), "due_at", "id",
                name="timer_account_host",
                condition=Q(outcome__isnull=False)
                | Q(fired_at=None)
                | _UNLEASED,
            ),
            models.Index(
                "account_id", Collate("key", "C"), STATUS, "due_at", "id",
                name="timer_account_key",
                condition=Q(key__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.id} due {self.due_at:%Y-%m-%d %H:%M:%S.%f}"


class Key(models.Model):
    """Which timer has a key; the key is free once that timer has ended."""

    pk = models.CompositePrimaryKey("account_id", "key")
    account_id = models.IntegerField(db_default=1)
    key = models.TextField()
    timer_id = models.UUIDField()
    #: The time beyond which `extend` does not move the timer.
    latest_at = models.DateTimeField(null=True)

    class Meta:
        """A table of its own: a unique constraint would bind the timers."""

        db_table = "timer_key"

    def __str__(self) -> str:
        return f"key {self.key} of {self.timer_id}"


class Label(models.Model):
    """One label of a timer, where timers are found by it."""

    pk = models.CompositePrimaryKey(
        "account_id", "name", "value", "due_at", "timer_id"
    )
    account_id = models.IntegerField(db_default=1)
    name = models.TextField()
    value = models.TextField()
    #: As the timer's: lists are in this order.
    due_at = models.DateTimeField()
    timer_id = models.UUIDField()

    class Meta:
        """The primary key is the index that lists read."""

        db_table = "timer_label"

    def __str__(self) -> str:
        return f"label {self.name}:{self.value} of {self.timer_id}"


class RequestKey(models.Model):
    """A request's `Idempotency-Key`, and what was answered."""

    pk = models.CompositePrimaryKey("account_id", "key")
    account_id = models.IntegerField(db_default=1)
    key = models.TextField()
    #: SHA-256 of the request's body.
    fingerprint = models.BinaryField()
    timer_id = models.UUIDField()
    time_left = models.BigIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        """Written in the same statement as the timer; removed in order."""

        db_table = "request_key"
        indexes = (models.Index("created_at", name="request_key_created"),)

    def __str__(self) -> str:
        return f"request {self.key} made {self.timer_id}"


class RequestChunk(models.Model):
    """A chunk of a request for many timers, and what was answered.

    The request has an `Idempotency-Key`, which may be a `RequestKey` as well.
    """

    pk = models.CompositePrimaryKey("account_id", "key", "number")
    account_id = models.IntegerField(db_default=1)
    key = models.TextField()
    #: From 0.
    number = models.IntegerField()
    #: SHA-256 of the chunk's items.
    fingerprint = models.BinaryField()
    #: A line of JSON for each item.
    answers = models.BinaryField()
    created_at = models.DateTimeField()

    class Meta:
        """Written in the same transaction as the timers."""

        db_table = "request_chunk"
        indexes = (models.Index("created_at", name="request_chunk_created"),)

    def __str__(self) -> str:
        return f"chunk {self.number} of request {self.key}"


class Event(models.Model):
    """Something that a caller did with a timer; rows are only added."""

    timer_id = models.UUIDField()
    at = models.DateTimeField()
    #: moved, changed, fired, cancelled, replayed, reconciled or erased.
    what = models.TextField()
    #: `due_at` before and after, if the timer was moved.
    old_at = models.DateTimeField(null=True)
    new_at = models.DateTimeField(null=True)

    class Meta:
        """Written in the same statement as the change; read in order."""

        db_table = "event"
        indexes = (
            models.Index("timer_id", "id", name="event_timer"),
            # Retention finds timers by it that were cancelled long ago.
            models.Index(
                "at", "timer_id", name="event_cancelled",
                condition=Q(what="cancelled"),
            ),
        )

    def __str__(self) -> str:
        return f"{self.what} {self.timer_id} at {self.at}"


class Hold(models.Model):
    """The operator's hold: while its one row is there, nothing is claimed."""

    #: Always 1.
    id = models.SmallIntegerField(primary_key=True)
    since = models.DateTimeField()
    reason = models.TextField(null=True)

    class Meta:
        """Each claim looks whether there is a row."""

        db_table = "hold"

    def __str__(self) -> str:
        return f"hold since {self.since}"


class Attempt(models.Model):
    """One attempt to call a timer's URL, even if it sent nothing."""

    pk = models.CompositePrimaryKey("timer_id", "number")
    timer_id = models.UUIDField()
    #: From 1, the value of the header `timer-attempt`.
    number = models.IntegerField()
    due_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    status_code = models.SmallIntegerField(null=True)
    #: Like a timer's `error`.
    error = models.TextField(null=True)
    #: From before the name was resolved; NULL if the worker died.
    duration = models.DurationField(null=True)
    #: The first KiB of the answer's body, not decoded.
    answer = models.BinaryField(null=True)
    #: As a timer's.
    encrypted_with = models.TextField(null=True)

    class Meta:
        """No foreign key: old timers can be dropped by the partition."""

        db_table = "attempt"

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.timer_id}"
