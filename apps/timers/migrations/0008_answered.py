from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("timers", "0007_autovacuum")]

    operations = [
        migrations.AddField(
            model_name="timer",
            name="answered",
            field=models.SmallIntegerField(null=True),
        ),
    ]
