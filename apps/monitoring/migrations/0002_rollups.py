from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

#: No key and no index: each record adds a row. Rows are removed soon, so a
#: vacuum comes soon; it leaves the file as long as it is, since to shorten it
#: records would have to wait. Logical replication needs an identity.
TALLY = """
CREATE TABLE tally (
    at timestamptz NOT NULL,
    due_at timestamptz,
    sent_at timestamptz,
    duration interval,
    account_id integer NOT NULL,
    status_code smallint,
    times smallint NOT NULL DEFAULT 1,
    outcome text,
    failure text,
    host text
) WITH (vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 10000);
ALTER TABLE tally REPLICA IDENTITY FULL
"""


def _key(*columns: str) -> models.CompositePrimaryKey:
    return models.CompositePrimaryKey(
        *columns, blank=True, editable=False, primary_key=True,
        serialize=False,
    )


def _sums() -> list[tuple[str, Any]]:
    return [
        ("at", models.DateTimeField()),
        ("calls", models.IntegerField()),
        *(
            (name, ArrayField(models.IntegerField(), size=None))
            for name in ("ended", "results", "late", "took")
        ),
        ("late_most", models.DurationField(null=True)),
        ("took_most", models.DurationField(null=True)),
    ]


class Migration(migrations.Migration):

    dependencies = [("monitoring", "0001_process")]

    operations = [
        migrations.CreateModel(
            name="RollUp",
            fields=[
                *_sums(),
                ("pk", _key("account_id", "minutes", "at")),
                ("account_id", models.IntegerField()),
                ("minutes", models.SmallIntegerField()),
            ],
            options={"db_table": "roll_up"},
        ),
        migrations.CreateModel(
            name="RollUpHost",
            fields=[
                *_sums(),
                ("pk", _key("account_id", "at", "host")),
                ("account_id", models.IntegerField()),
                ("host", models.TextField()),
            ],
            options={"db_table": "roll_up_host"},
        ),
        migrations.RunSQL(
            TALLY,
            "DROP TABLE tally",
            state_operations=[
                migrations.CreateModel(
                    name="Tally",
                    fields=[
                        ("pk", _key("account_id", "at")),
                        ("account_id", models.IntegerField()),
                        ("at", models.DateTimeField()),
                        ("times", models.SmallIntegerField(db_default=1)),
                        ("host", models.TextField(null=True)),
                        ("outcome", models.TextField(null=True)),
                        ("due_at", models.DateTimeField(null=True)),
                        ("sent_at", models.DateTimeField(null=True)),
                        ("duration", models.DurationField(null=True)),
                        ("status_code", models.SmallIntegerField(null=True)),
                        ("failure", models.TextField(null=True)),
                    ],
                    options={"db_table": "tally"},
                ),
            ],
        ),
        *(
            migrations.AddField(
                "process", name, models.IntegerField(null=True)
            )
            for name in ("threads", "busy")
        ),
        migrations.AddField(
            "process", "circuits", models.JSONField(null=True)
        ),
    ]
