from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("timers", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="timer",
            name="at_least_once",
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name="timer",
            name="connect_failures",
            field=models.SmallIntegerField(db_default=0),
        ),
        migrations.AddField(
            model_name="timer",
            name="retry_until",
            field=models.DateTimeField(null=True),
        ),
        migrations.AlterField(
            model_name="timer",
            name="outcome",
            field=models.TextField(
                null=True,
                choices=[
                    ("delivered", "the receiver answered 2xx"),
                    (
                        "failed",
                        "another answer, or none because of a known error",
                    ),
                    (
                        "unknown",
                        "the request left; whether it arrived is not known",
                    ),
                    ("cancelled", "deleted before it was claimed"),
                ],
            ),
        ),
    ]
