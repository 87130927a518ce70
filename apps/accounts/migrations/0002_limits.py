import django.db.models.deletion
from django.db import migrations, models

# A row has a new version with each group of timers that is stored.
_ROOM = "ALTER TABLE account_limit SET (fillfactor = 20)"


class Migration(migrations.Migration):

    dependencies = [("accounts", "0001_accounts")]

    operations = [
        migrations.CreateModel(
            name="AccountLimit",
            fields=[
                (
                    "account",
                    models.OneToOneField(
                        "accounts.account",
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("outstanding", models.BigIntegerField(null=True)),
                ("creates_per_second", models.IntegerField(null=True)),
                ("burst", models.IntegerField(null=True)),
                ("body_bytes", models.IntegerField(null=True)),
                ("tokens", models.FloatField()),
                ("filled_at", models.DateTimeField()),
                ("room", models.BigIntegerField(null=True)),
                ("counted_at", models.DateTimeField(null=True)),
            ],
            options={"db_table": "account_limit"},
        ),
        migrations.RunSQL(_ROOM, migrations.RunSQL.noop),
    ]
