from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("timers", "0002_once")]

    operations = [
        migrations.CreateModel(
            name="Attempt",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "timer_id",
                        "number",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("timer_id", models.UUIDField()),
                ("number", models.SmallIntegerField()),
                ("due_at", models.DateTimeField()),
                ("sent_at", models.DateTimeField(null=True)),
                ("status_code", models.SmallIntegerField(null=True)),
                ("error", models.TextField(null=True)),
                ("duration", models.DurationField(null=True)),
                ("answer", models.BinaryField(null=True)),
            ],
            options={"db_table": "attempt"},
        ),
        migrations.AddField(
            model_name="timer",
            name="method",
            field=models.TextField(db_default="POST"),
        ),
        migrations.AddField(
            model_name="timer",
            name="headers",
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name="timer",
            name="body",
            field=models.BinaryField(null=True),
        ),
        migrations.AddField(
            model_name="timer",
            name="retry",
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name="timer",
            name="max_lateness",
            field=models.DurationField(null=True),
        ),
        migrations.AddField(
            model_name="timer",
            name="attempts",
            field=models.SmallIntegerField(db_default=0),
        ),
        migrations.AddField(
            model_name="timer",
            name="retries",
            field=models.SmallIntegerField(db_default=0),
        ),
        migrations.AddField(
            model_name="timer",
            name="replayed_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AlterField(
            model_name="timer",
            name="outcome",
            field=models.TextField(
                null=True,
                choices=[
                    ("delivered", "the receiver answered 2xx"),
                    (
                        "failed",
                        "another answer, or none because of a known error",
                    ),
                    (
                        "unknown",
                        "the request left; whether it arrived is not known",
                    ),
                    ("missed", "not called: it would have been too late"),
                    (
                        "cancelled",
                        "deleted before it was called, or called again",
                    ),
                ],
            ),
        ),
    ]
