from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):

    atomic = False  # as CREATE INDEX CONCURRENTLY has to be

    dependencies = [("timers", "0003_webhooks")]

    operations = [
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                models.F("due_at"),
                models.F("id"),
                name="timer_gave_up",
                condition=Q(outcome__in=("failed", "unknown", "missed")),
            ),
        ),
    ]
