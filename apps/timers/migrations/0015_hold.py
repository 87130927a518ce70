from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("timers", "0014_retention")]

    operations = [
        migrations.CreateModel(
            name="Hold",
            fields=[
                (
                    "id",
                    models.SmallIntegerField(
                        primary_key=True, serialize=False
                    ),
                ),
                ("since", models.DateTimeField()),
                ("reason", models.TextField(null=True)),
            ],
            options={"db_table": "hold"},
        ),
    ]
