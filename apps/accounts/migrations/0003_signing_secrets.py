import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("accounts", "0002_limits")]

    operations = [
        migrations.CreateModel(
            name="SigningSecret",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                (
                    "account",
                    models.ForeignKey(
                        "accounts.account",
                        on_delete=django.db.models.deletion.PROTECT,
                    ),
                ),
                ("kind", models.TextField()),
                ("secret", models.BinaryField()),
                ("encrypted_with", models.TextField(null=True)),
                ("public_key", models.TextField(null=True)),
                ("created_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(null=True)),
            ],
            options={"db_table": "signing_secret"},
        ),
    ]
