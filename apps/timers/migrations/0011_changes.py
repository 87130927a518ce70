from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("timers", "0010_deferred")]

    operations = [
        migrations.AddField(
            model_name="timer",
            name="key",
            field=models.TextField(null=True),
        ),
        migrations.AddField(
            model_name="timer",
            name="labels",
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name="timer",
            name="version",
            field=models.IntegerField(db_default=1),
        ),
        migrations.AddField(
            model_name="timer",
            name="arrives_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.CreateModel(
            name="Key",
            fields=[
                ("key", models.TextField(primary_key=True, serialize=False)),
                ("timer_id", models.UUIDField()),
                ("latest_at", models.DateTimeField(null=True)),
            ],
            options={"db_table": "timer_key"},
        ),
        migrations.CreateModel(
            name="Label",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "name", "value", "due_at", "timer_id",
                        blank=True, editable=False, primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.TextField()),
                ("value", models.TextField()),
                ("due_at", models.DateTimeField()),
                ("timer_id", models.UUIDField()),
            ],
            options={"db_table": "timer_label"},
        ),
        migrations.CreateModel(
            name="RequestKey",
            fields=[
                ("key", models.TextField(primary_key=True, serialize=False)),
                ("fingerprint", models.BinaryField()),
                ("timer_id", models.UUIDField()),
                ("time_left", models.BigIntegerField()),
                ("created_at", models.DateTimeField()),
            ],
            options={"db_table": "request_key"},
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("timer_id", models.UUIDField()),
                ("at", models.DateTimeField()),
                ("what", models.TextField()),
                ("old_at", models.DateTimeField(null=True)),
                ("new_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "event",
                "indexes": [
                    models.Index("timer_id", "id", name="event_timer")
                ],
            },
        ),
    ]
