import django.db.models.deletion
from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

# Its id is 1: what timers without an account of their own have.
_DEFAULT = "INSERT INTO account (name, created_at) VALUES ('default', now())"


class Migration(migrations.Migration):

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Account",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("name", models.TextField(unique=True)),
                ("created_at", models.DateTimeField()),
            ],
            options={"db_table": "account"},
        ),
        migrations.CreateModel(
            name="ApiKey",
            fields=[
                (
                    "prefix",
                    models.TextField(primary_key=True, serialize=False),
                ),
                (
                    "account",
                    models.ForeignKey(
                        "accounts.account",
                        on_delete=django.db.models.deletion.PROTECT,
                    ),
                ),
                ("digest", models.BinaryField()),
                ("scopes", ArrayField(models.TextField())),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField(null=True)),
                ("last_used_at", models.DateTimeField(null=True)),
                ("revoked_at", models.DateTimeField(null=True)),
            ],
            options={"db_table": "api_key"},
        ),
        migrations.RunSQL(_DEFAULT, migrations.RunSQL.noop),
    ]
