"""The table in which processes without a port say how they are."""

from django.db import models


class Process(models.Model):
    """A worker's or dispatcher's process; its row goes when it stops.

    Web processes also report on those of other machines. So the table is in
    the database, which all of them use.
    """

    id = models.UUIDField(primary_key=True)
    #: "worker" or "dispatcher".
    role = models.TextField()
    #: Host and process id, for people.
    name = models.TextField()
    #: When the process wrote this, on Postgres's clock.
    seen_at = models.DateTimeField()
    #: When it last did all of its work.
    good_at = models.DateTimeField()
    #: The troubles that the process reports about itself.
    trouble = models.TextField(null=True)

    class Meta:
        """No index: there are as many rows as processes."""

        db_table = "process"

    def __str__(self) -> str:
        return f"{self.role} {self.name}"
