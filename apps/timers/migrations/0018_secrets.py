from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("timers", "0017_account_indexes")]

    operations = [
        *(
            migrations.AddField(
                model_name=name,
                name="encrypted_with",
                field=models.TextField(null=True),
            )
            for name in ("timer", "attempt")
        ),
        migrations.AddField(
            model_name="timer",
            name="erased_at",
            field=models.DateTimeField(null=True),
        ),
    ]
