from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="InboxAnswer",
            fields=[
                (
                    "inbox",
                    models.TextField(primary_key=True, serialize=False),
                ),
                ("answer", models.TextField()),
                ("seconds", models.IntegerField()),
                ("set_at", models.DateTimeField()),
            ],
            options={"db_table": "inbox_answer"},
        ),
        migrations.CreateModel(
            name="InboxCall",
            fields=[
                (
                    "id",
                    models.BigAutoField(primary_key=True, serialize=False),
                ),
                ("inbox", models.TextField()),
                ("came_at", models.DateTimeField()),
                ("method", models.TextField()),
                ("query", models.TextField()),
                ("headers", models.JSONField()),
                ("body", models.BinaryField()),
                ("answer", models.TextField()),
                ("seconds", models.IntegerField()),
            ],
            options={
                "db_table": "inbox_call",
                "indexes": [
                    models.Index("inbox", "id", name="inbox_call_inbox")
                ],
            },
        ),
    ]
