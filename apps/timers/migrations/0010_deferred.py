from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("timers", "0009_unleased")]

    operations = [
        migrations.AddField(
            model_name="timer",
            name="deferred",
            field=models.BooleanField(db_default=False),
        ),
    ]
