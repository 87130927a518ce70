from django.db import migrations

#: By default a fifth of a table has to be dead first: 20 million rows of
#: 100 million. Each timer that fires leaves three.
TABLES = ("timer", "attempt")


class Migration(migrations.Migration):

    dependencies = [("timers", "0006_host")]

    operations = [
        migrations.RunSQL(
            [
                f"ALTER TABLE {table} SET"
                " (autovacuum_vacuum_scale_factor = 0.01)"
                for table in TABLES
            ],
            [
                f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor)"
                for table in TABLES
            ],
        ),
    ]
