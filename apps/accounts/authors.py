"""Who makes a change, as the log has it."""

import os
import pwd
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest

from apps.core.callers import DEFAULT_ACCOUNT, caller_of


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change.

    account   whose key was sent; the account `default` without one
    key       the prefix of the request's API key
    operator  who did it without a key, if that is known: a user of this
              machine, with the command, or a user of the admin pages
    address   from where, if it was a request
    """

    account: int
    key: str | None = None
    operator: str | None = None
    address: str | None = None


def author_of(request: HttpRequest) -> Author:
    """Return who makes the change that a request asks for."""
    caller = caller_of(request)
    return Author(caller.account, caller.key, caller.user, source(request))


def author_of_command(command: str) -> Author:
    """Return who runs a management command."""
    return Author(
        DEFAULT_ACCOUNT, operator=f"{_os_user()}: manage.py {command}"
    )


def author_of_process() -> Author:
    """Return who runs this process, whatever it is."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
    return Author(DEFAULT_ACCOUNT, operator=f"{_os_user()}: {command}")


def source(request: HttpRequest) -> str | None:
    """Return the IP address that a request comes from, None if unknown.

    The last PROXIES addresses of X-Forwarded-For are from proxies of ours.
    Those before them may be anything.
    """
    address = request.META.get("REMOTE_ADDR", "")
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if 0 < settings.PROXIES <= len(hops):
        address = hops[-settings.PROXIES]
    try:
        found = ip_address(address.strip())
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)


def _os_user() -> str:
    """Return the user of this process; in a container it may have no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
