from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):

    atomic = False  # as CREATE INDEX CONCURRENTLY has to be

    dependencies = [("timers", "0013_lists")]

    operations = [
        # A mark needs room on its row's page to write no index. Pages that
        # are full already stay so.
        migrations.RunSQL(
            "ALTER TABLE timer SET (fillfactor = 80)",
            "ALTER TABLE timer RESET (fillfactor)",
        ),
        AddIndexConcurrently(
            model_name="event",
            index=models.Index(
                F("at"),
                F("timer_id"),
                name="event_cancelled",
                condition=Q(what="cancelled"),
            ),
        ),
        AddIndexConcurrently(
            model_name="requestkey",
            index=models.Index(F("created_at"), name="request_key_created"),
        ),
        AddIndexConcurrently(
            model_name="requestchunk",
            index=models.Index(F("created_at"), name="request_chunk_created"),
        ),
    ]
