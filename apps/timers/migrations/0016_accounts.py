from django.db import migrations, models

# With a default that is a constant, no table is rewritten. Rows that are there
# belong to the account `default`.
_MODELS = ("timer", "key", "label", "requestkey", "requestchunk")


class Migration(migrations.Migration):

    dependencies = [
        ("timers", "0015_hold"),
        ("accounts", "0001_accounts"),
    ]

    operations = [
        migrations.AddField(
            model_name=name,
            name="account_id",
            field=models.IntegerField(db_default=1),
        )
        for name in _MODELS
    ]
