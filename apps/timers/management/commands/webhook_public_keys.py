"""`manage.py webhook_public_keys`: what receivers verify calls with."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.webhooks.signing import public_key


class Command(BaseCommand):
    """Print the public key of each configured private key."""

    help = (
        "Print the public keys, one a line, of the private keys in"
        " WEBHOOK_PRIVATE_KEY. Receivers verify webhooks with them."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Print them in the order of their private keys."""
        if not settings.WEBHOOK_PRIVATE_KEYS:
            raise CommandError(
                "WEBHOOK_PRIVATE_KEY is not set. Make a private key with:"
                " echo whsk_$(openssl rand -base64 32)"
            )
        for key in settings.WEBHOOK_PRIVATE_KEYS:
            self.stdout.write(public_key(key))
