"""The tables of inboxes; `storage` has all SQL that uses them."""

from django.db import models


class InboxCall(models.Model):
    """A call that an inbox got; only the latest ones are kept."""

    id = models.BigAutoField(primary_key=True)
    inbox = models.TextField()
    #: When web had it, on Postgres's clock.
    came_at = models.DateTimeField()
    method = models.TextField()
    #: What stands behind the "?" of its URL.
    query = models.TextField()
    #: By their names, in lower case.
    headers = models.JSONField()
    body = models.BinaryField()
    #: How it was answered: as `InboxAnswer` has it.
    answer = models.TextField()
    seconds = models.IntegerField()

    class Meta:
        """Calls become visible in the order of their ids."""

        db_table = "inbox_call"
        indexes = (models.Index("inbox", "id", name="inbox_call_inbox"),)

    def __str__(self) -> str:
        return f"call {self.id} of inbox {self.inbox}"


class InboxAnswer(models.Model):
    """How an inbox answers from now on; without a row, by 200."""

    inbox = models.TextField(primary_key=True)
    answer = models.TextField()
    #: Of Retry-After, or until it answers.
    seconds = models.IntegerField()
    set_at = models.DateTimeField()

    class Meta:
        """One row an inbox."""

        db_table = "inbox_answer"

    def __str__(self) -> str:
        return f"inbox {self.inbox} answers {self.answer}"
