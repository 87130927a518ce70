from django.contrib.postgres.operations import (
    AddIndexConcurrently,
    RemoveIndexConcurrently,
)
from django.db import migrations, models
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
# Without it, Postgres takes each status for a rare one: it does not use what
# it knows of a partial index's expressions.
_STATISTICS = """
CREATE STATISTICS IF NOT EXISTS timer_status ON (
    CASE WHEN outcome IN ('delivered', 'unknown', 'missed', 'cancelled')
         THEN outcome
         WHEN outcome IS NOT NULL THEN 'failed'
         WHEN fired_at IS NOT NULL THEN 'firing'
         WHEN deferred THEN 'deferred'
         WHEN attempts = 0 AND claims = 0 THEN 'scheduled'
         ELSE 'retrying' END
) FROM timer
"""


class Migration(migrations.Migration):

    atomic = False  # as CREATE INDEX CONCURRENTLY has to be

    dependencies = [("timers", "0012_bulk")]

    operations = [
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                _STATUS,
                F("due_at"),
                F("id"),
                name="timer_by_status",
                condition=Q(outcome__isnull=False)
                | Q(fired_at=None) & _PUT_OFF
                | _UNLEASED,
            ),
        ),
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                Collate("host", "C"),
                _STATUS,
                F("due_at"),
                F("id"),
                name="timer_by_host",
                condition=Q(outcome__isnull=False)
                | Q(fired_at=None)
                | _UNLEASED,
            ),
        ),
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                Collate("key", "C"),
                _STATUS,
                F("due_at"),
                F("id"),
                name="timer_by_key",
                condition=Q(key__isnull=False),
            ),
        ),
        migrations.RunSQL(
            _STATISTICS, "DROP STATISTICS IF EXISTS timer_status"
        ),
        RemoveIndexConcurrently(model_name="timer", name="timer_gave_up"),
        RemoveIndexConcurrently(model_name="timer", name="timer_gave_up_host"),
    ]
