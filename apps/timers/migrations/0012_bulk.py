from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("timers", "0011_changes")]

    operations = [
        migrations.CreateModel(
            name="RequestChunk",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "key", "number",
                        blank=True, editable=False, primary_key=True,
                        serialize=False,
                    ),
                ),
                ("key", models.TextField()),
                ("number", models.IntegerField()),
                ("fingerprint", models.BinaryField()),
                ("answers", models.BinaryField()),
                ("created_at", models.DateTimeField()),
            ],
            options={"db_table": "request_chunk"},
        ),
    ]
