"""Accounts and their API keys; `storage` has all SQL that uses the rows."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Account(models.Model):
    """Somebody who owns timers; others can't see them.

    The account with the id 1 is `default`. Whatever is done without an API
    key is done by it.
    """

    id = models.AutoField(primary_key=True)
    name = models.TextField(unique=True)
    created_at = models.DateTimeField()

    class Meta:
        """A small table: one row for each team."""

        db_table = "account"

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A key of an account. The key itself is not stored: see `keys`."""

    #: The part of the key that is no secret.
    prefix = models.TextField(primary_key=True)
    account = models.ForeignKey(Account, models.PROTECT)
    #: SHA-256 of the secret part.
    digest = models.BinaryField()
    scopes = ArrayField(models.TextField())
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    #: To the minute; written after the request was answered.
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        """Rows stay when a key is revoked: its prefix may be in a log."""

        db_table = "api_key"

    def __str__(self) -> str:
        return f"API key {self.prefix} of account {self.account_id}"


class SigningSecret(models.Model):
    """A secret that signs an account's calls, beside its others."""

    #: It names the secret, and is none.
    id = models.TextField(primary_key=True)
    account = models.ForeignKey(Account, models.PROTECT)
    #: `v1` (HMAC-SHA-256) or `v1a` (Ed25519).
    kind = models.TextField()
    #: The key's bytes; sealed if the next column has a value.
    secret = models.BinaryField()
    #: The id of the encryption key; NULL: it is not encrypted.
    encrypted_with = models.TextField(null=True)
    #: With which receivers verify `v1a`.
    public_key = models.TextField(null=True)
    created_at = models.DateTimeField()
    #: Until when it signs; NULL: for ever.
    ends_at = models.DateTimeField(null=True)

    class Meta:
        """A small table, which workers read every two seconds."""

        db_table = "signing_secret"

    def __str__(self) -> str:
        return f"signing secret {self.id} of account {self.account_id}"


class AccountLimit(models.Model):
    """An account's limits, and what is left of them.

    NULL is no limit. A row is locked while a group of the account's timers is
    stored; `timers.storage.limiting` says how it is charged.
    """

    account = models.OneToOneField(
        Account, models.PROTECT, primary_key=True
    )
    #: The most timers that have not ended.
    outstanding = models.BigIntegerField(null=True)
    creates_per_second = models.IntegerField(null=True)
    burst = models.IntegerField(null=True)
    #: The longest body of a request that sets or changes a timer.
    body_bytes = models.IntegerField(null=True)
    #: How many timers could be set at the moment `filled_at`.
    tokens = models.FloatField()
    filled_at = models.DateTimeField()
    #: How many more timers there may be before they are counted again, and
    #: when they were counted last. NULL: they have to be counted.
    room = models.BigIntegerField(null=True)
    counted_at = models.DateTimeField(null=True)

    class Meta:
        """Without an index on what changes, each update is HOT."""

        db_table = "account_limit"

    def __str__(self) -> str:
        return f"limits of account {self.account_id}"


class LogEntry(models.Model):
    """A change: who did what. Entries are not changed: see `log`."""

    id = models.UUIDField(primary_key=True)
    #: Whom the change concerns; what concerns all is of `default`.
    account = models.ForeignKey(Account, models.PROTECT, db_index=False)
    at = models.DateTimeField()
    #: The author: see `authors.Author`.
    key = models.TextField(null=True)
    operator = models.TextField(null=True)
    address = models.GenericIPAddressField(null=True)
    action = models.TextField()
    object = models.TextField()
    #: Of how many objects, if it was a change in bulk.
    count = models.IntegerField(null=True)

    class Meta:
        """Pages go from the latest on, of one account or of all."""

        db_table = "log"
        indexes = [
            models.Index(fields=["account", "at", "id"], name="log_of"),
            models.Index(fields=["at", "id"], name="log_at"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object}"
