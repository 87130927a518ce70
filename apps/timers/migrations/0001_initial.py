from django.db import migrations, models
from django.db.models import Q

WAITING = Q(fired_at=None, outcome=None)


class Migration(migrations.Migration):

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Timer",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("url", models.TextField()),
                ("created_at", models.DateTimeField()),
                ("due_at", models.DateTimeField()),
                ("next_at", models.DateTimeField()),
                ("queued_at", models.DateTimeField(null=True)),
                ("fired_at", models.DateTimeField(null=True)),
                ("claim_token", models.UUIDField(null=True)),
                ("leased_until", models.DateTimeField(null=True)),
                ("claims", models.SmallIntegerField(db_default=0)),
                ("sent_at", models.DateTimeField(null=True)),
                (
                    "outcome",
                    models.TextField(
                        null=True,
                        choices=[
                            ("delivered", "the receiver answered 2xx"),
                            (
                                "failed",
                                "another answer, or none because of a known"
                                " error",
                            ),
                            (
                                "unknown",
                                "the request left; whether it arrived is not"
                                " known",
                            ),
                        ],
                    ),
                ),
                ("status_code", models.SmallIntegerField(null=True)),
                ("error", models.TextField(null=True)),
            ],
            options={
                "db_table": "timer",
                "indexes": [
                    models.Index(
                        models.F("next_at"),
                        name="timer_unqueued",
                        condition=WAITING & Q(queued_at=None),
                    ),
                    models.Index(
                        models.F("next_at"),
                        name="timer_queued",
                        condition=WAITING & Q(queued_at__isnull=False),
                    ),
                    models.Index(
                        models.F("leased_until"),
                        name="timer_leased",
                        condition=Q(leased_until__isnull=False),
                    ),
                ],
            },
        ),
    ]
