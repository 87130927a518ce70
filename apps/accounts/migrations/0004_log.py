import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("accounts", "0003_signing_secrets")]

    operations = [
        migrations.CreateModel(
            name="LogEntry",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "account",
                    models.ForeignKey(
                        "accounts.account",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                    ),
                ),
                ("at", models.DateTimeField()),
                ("key", models.TextField(null=True)),
                ("operator", models.TextField(null=True)),
                ("address", models.GenericIPAddressField(null=True)),
                ("action", models.TextField()),
                ("object", models.TextField()),
                ("count", models.IntegerField(null=True)),
            ],
            options={
                "db_table": "log",
                "indexes": [
                    models.Index(
                        fields=["account", "at", "id"], name="log_of"
                    ),
                    models.Index(fields=["at", "id"], name="log_at"),
                ],
            },
        ),
    ]
