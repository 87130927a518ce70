from typing import Any
from uuid import UUID

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q

from apps.webhooks.target import host_of

#: Rows that are locked at once. Whoever waits for one of them does so for
#: some milliseconds.
BATCH = 1000

_READ = """
SELECT id, url,
       host IS NULL AND coalesce(outcome IN ('failed', 'unknown', 'missed'),
                                 true)
FROM timer WHERE id > %s ORDER BY id LIMIT %s
"""
# In the order of the ids, as all that locks many rows.
_FILL = """
WITH given AS MATERIALIZED (
    SELECT timer.id, given.host
    FROM unnest(%s::uuid[], %s::text[]) AS given (id, host)
    JOIN timer USING (id)
    WHERE timer.host IS NULL
    ORDER BY timer.id
    FOR UPDATE OF timer
)
UPDATE timer SET host = given.host FROM given WHERE timer.id = given.id
"""


def fill_hosts(apps: Any, schema_editor: Any) -> None:
    """Fill the host of what gave up, or may yet, batch by batch.

    Each statement is a transaction of its own. What has ended otherwise is
    never asked for by its host.
    """
    last = UUID(int=0)
    with schema_editor.connection.cursor() as cursor:
        while True:
            cursor.execute(_READ, [last, BATCH])
            rows = cursor.fetchall()
            hosts = {
                timer_id: host
                for timer_id, url, wanted in rows
                if wanted and (host := host_of(url)) is not None
            }
            if hosts:
                cursor.execute(_FILL, [list(hosts), list(hosts.values())])
            if len(rows) < BATCH:
                return
            last = rows[-1][0]


class Migration(migrations.Migration):

    atomic = False  # as CREATE INDEX CONCURRENTLY has to be

    dependencies = [("timers", "0005_integers")]

    operations = [
        # One that was interrupted can be run again.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField(
                    model_name="timer",
                    name="host",
                    field=models.TextField(null=True),
                ),
            ],
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE timer ADD COLUMN IF NOT EXISTS host text",
                    "ALTER TABLE timer DROP COLUMN IF EXISTS host",
                ),
            ],
        ),
        migrations.RunPython(
            fill_hosts, migrations.RunPython.noop, atomic=False
        ),
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                models.F("host"),
                models.F("due_at"),
                models.F("id"),
                name="timer_gave_up_host",
                condition=Q(outcome__in=("failed", "unknown", "missed")),
            ),
        ),
    ]
