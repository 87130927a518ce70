"""What a process runs, and how much waits for it.

Adding these columns reads no row. Older versions of the service leave them
alone. A process that starts before them only can't write how it is.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds two columns that may be empty."""

    dependencies = [("monitoring", "0002_rollups")]

    operations = [
        migrations.AddField(
            "process", "version", models.TextField(null=True)
        ),
        migrations.AddField(
            "process", "backlog", models.IntegerField(null=True)
        ),
    ]
