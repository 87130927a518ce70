from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):

    atomic = False  # as CREATE INDEX CONCURRENTLY has to be

    dependencies = [("timers", "0008_answered")]

    operations = [
        AddIndexConcurrently(
            model_name="timer",
            index=models.Index(
                models.F("fired_at"),
                name="timer_unleased",
                condition=Q(
                    fired_at__isnull=False, leased_until=None, outcome=None
                ),
            ),
        ),
    ]
