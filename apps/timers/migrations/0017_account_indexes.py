from django.contrib.postgres.operations import (
    AddIndexConcurrently,
    RemoveIndexConcurrently,
)
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Collate

_STATUS = Collate(
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
_PUT_OFF = (
    Q(deferred=True) | ~Q(attempts=0) | ~Q(claims=0) | ~Q(next_at=F("due_at"))
)
_UNLEASED = Q(fired_at__isnull=False, leased_until=None)


def _own_key(model: str, table: str, *columns: str) -> list[Operation]:
    """Return what puts the account into a table's primary key.

    The index is built beside traffic. Then it takes the old one's place at
    once.
    """
    names = ("account_id", *columns)
    listed = ", ".join(names)
    key = models.CompositePrimaryKey(
        *names, blank=True, editable=False, primary_key=True, serialize=False
    )
    if len(columns) == 1:
        state: list[Operation] = [
            migrations.AlterField(model, columns[0], models.TextField()),
            migrations.AddField(model, "pk", key),
        ]
    else:
        state = [migrations.AlterField(model, "pk", key)]
    return [
        migrations.RunSQL(
            f"CREATE UNIQUE INDEX CONCURRENTLY {table}_owned"
            f" ON {table} ({listed})",
            f"DROP INDEX CONCURRENTLY IF EXISTS {table}_owned",
        ),
        migrations.RunSQL(
            f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey,"
            f" ADD CONSTRAINT {table}_pkey PRIMARY KEY"
            f" USING INDEX {table}_owned",
            f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey,"
            f" ADD CONSTRAINT {table}_pkey PRIMARY KEY"
            f" ({', '.join(columns)})",
            state_operations=state,
        ),
    ]


class Migration(migrations.Migration):

    atomic = False  # as CREATE INDEX CONCURRENTLY has to be

    dependencies = [("timers", "0016_accounts")]

    operations = [
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                F("account_id"),
                _STATUS,
                F("due_at"),
                F("id"),
                name="timer_account_status",
                condition=Q(outcome__isnull=False)
                | Q(fired_at=None) & _PUT_OFF
                | _UNLEASED,
            ),
        ),
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                F("account_id"),
                _STATUS,
                Collate("host", "C"),
                F("due_at"),
                F("id"),
                name="timer_account_host",
                condition=Q(outcome__isnull=False)
                | Q(fired_at=None)
                | _UNLEASED,
            ),
        ),
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                F("account_id"),
                Collate("key", "C"),
                _STATUS,
                F("due_at"),
                F("id"),
                name="timer_account_key",
                condition=Q(key__isnull=False),
            ),
        ),
        *_own_key("key", "timer_key", "key"),
        *_own_key(
            "label", "timer_label", "name", "value", "due_at", "timer_id"
        ),
        *_own_key("requestkey", "request_key", "key"),
        *_own_key("requestchunk", "request_chunk", "key", "number"),
        RemoveIndexConcurrently(model_name="timer", name="timer_by_status"),
        RemoveIndexConcurrently(model_name="timer", name="timer_by_host"),
        RemoveIndexConcurrently(model_name="timer", name="timer_by_key"),
    ]
