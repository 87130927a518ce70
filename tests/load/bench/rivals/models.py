"""The textbook version's table."""

from typing import ClassVar

from django.db import models


class Timer(models.Model):
    """A URL to be called at `due_at`."""

    id = models.UUIDField(primary_key=True)
    url = models.TextField()
    due_at = models.DateTimeField()
    fired_at = models.DateTimeField(null=True)
    status_code = models.SmallIntegerField(null=True)

    objects: ClassVar[models.Manager["Timer"]] = models.Manager()

    class Meta:
        """No index: nothing looks for a timer but by its id."""

        app_label = "rivals"

    def __str__(self) -> str:
        return f"{self.id} due {self.due_at}"
