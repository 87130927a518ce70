"""How processes without a port are; what happened in each minute."""

from django.contrib.postgres.fields import ArrayField
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
    #: The service's version that the process runs.
    version = models.TextField(null=True)
    #: When the process wrote this, on Postgres's clock.
    seen_at = models.DateTimeField()
    #: When it last did all of its work.
    good_at = models.DateTimeField()
    #: The troubles that the process reports about itself.
    trouble = models.TextField(null=True)
    #: Messages that wait: for a worker's threads, or in RabbitMQ.
    backlog = models.IntegerField(null=True)
    #: A worker's threads, and how many of them are calling.
    threads = models.IntegerField(null=True)
    busy = models.IntegerField(null=True)
    #: Hosts that answer a worker nothing: host, port, and for how many
    #: seconds, each.
    circuits = models.JSONField(null=True)

    class Meta:
        """No index: there are as many rows as processes."""

        db_table = "process"

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


class Tally(models.Model):
    """What a record changed; a dispatcher adds it to the roll-ups.

    It is a call, an end, or both.
    """

    #: For Django alone: the table has no key, and no index.
    pk = models.CompositePrimaryKey("account_id", "at")
    account_id = models.IntegerField()
    at = models.DateTimeField()
    #: -1 takes back what a late record corrects.
    times = models.SmallIntegerField(db_default=1)
    #: NULL if the timer's URL can't be called.
    host = models.TextField(null=True)
    outcome = models.TextField(null=True)
    #: A call's, as its attempt has them; of the error only the kind.
    due_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    duration = models.DurationField(null=True)
    status_code = models.SmallIntegerField(null=True)
    failure = models.TextField(null=True)

    class Meta:
        """Rows are added, and soon removed; nothing is looked up."""

        db_table = "tally"

    def __str__(self) -> str:
        return f"{self.times} of {self.host} at {self.at}"


class _Sums(models.Model):
    """What happened in a minute or an hour, by when it was recorded.

    `rollups.names` says what the places of the arrays stand for.
    """

    #: When the minute or the hour began.
    at = models.DateTimeField()
    #: How many tries to call there were: the sum of `results`.
    calls = models.IntegerField()
    ended = ArrayField(models.IntegerField())
    results = ArrayField(models.IntegerField())
    #: How many calls were in each range of lateness, and of duration.
    late = ArrayField(models.IntegerField())
    took = ArrayField(models.IntegerField())
    late_most = models.DurationField(null=True)
    took_most = models.DurationField(null=True)

    class Meta:
        """No table: it is what two tables have in common."""

        abstract = True


class RollUp(_Sums):
    """All that happened to an account's timers."""

    pk = models.CompositePrimaryKey("account_id", "minutes", "at")
    account_id = models.IntegerField()
    #: 1 or 60.
    minutes = models.SmallIntegerField()

    class Meta:
        """Pages read a range of the primary key."""

        db_table = "roll_up"

    def __str__(self) -> str:
        return f"{self.minutes} min from {self.at}"


class RollUpHost(_Sums):
    """What happened at a host, in a minute."""

    pk = models.CompositePrimaryKey("account_id", "at", "host")
    account_id = models.IntegerField()
    host = models.TextField()

    class Meta:
        """Pages read a range of the primary key."""

        db_table = "roll_up_host"

    def __str__(self) -> str:
        return f"{self.host}, minute from {self.at}"
