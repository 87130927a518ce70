from collections.abc import Sequence

from django.db import migrations, models

COUNTERS = ("claims", "attempts", "retries", "connect_failures")


def retype(table: str, columns: Sequence[str], kind: str) -> str:
    """Return one statement: each of several would write the table anew."""
    changes = ", ".join(f"ALTER {name} TYPE {kind}" for name in columns)
    return f"ALTER TABLE {table} {changes}"


class Migration(migrations.Migration):

    # Each table is locked for its own statement only.
    atomic = False

    dependencies = [("timers", "0004_gave_up")]

    operations = [
        migrations.RunSQL(
            retype("timer", COUNTERS, "integer"),
            retype("timer", COUNTERS, "smallint"),
            state_operations=[
                migrations.AlterField(
                    model_name="timer",
                    name=name,
                    field=models.IntegerField(db_default=0),
                )
                for name in COUNTERS
            ],
        ),
        migrations.RunSQL(
            retype("attempt", ["number"], "integer"),
            retype("attempt", ["number"], "smallint"),
            state_operations=[
                migrations.AlterField(
                    model_name="attempt",
                    name="number",
                    field=models.IntegerField(),
                ),
            ],
        ),
    ]
