from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Process",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("role", models.TextField()),
                ("name", models.TextField()),
                ("seen_at", models.DateTimeField()),
                ("good_at", models.DateTimeField()),
                ("trouble", models.TextField(null=True)),
            ],
            options={"db_table": "process"},
        ),
    ]
