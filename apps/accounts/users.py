"""Users of the admin who look at pages: operators, who may see all accounts.

They log in at /admin/, and choose there whose pages they see. A log-in is good
for pages only: programs have API keys.
"""

import re

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.db import DatabaseError
from django.http import HttpRequest

from apps.accounts.scopes import SCOPES
from apps.core.callers import DEFAULT_ACCOUNT, Caller
from apps.core.reaching import PostgresAway

#: What a session has: the id of the account whose pages are shown.
CHOSEN = "account"

_PAGES = re.compile(r"/|/(?:dashboard|inbox)(?:/.*)?")


def user_calling(request: HttpRequest) -> Caller | None:
    """Return the user who asks for a page, None if nobody has logged in.

    Superusers have all scopes, other staff only that of readers. Raises
    PostgresAway.
    """
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if key is None or not _PAGES.fullmatch(request.path_info):
        return None
    request.session = SessionStore(key)
    try:
        user = get_user(request)
        account = request.session.get(CHOSEN, DEFAULT_ACCOUNT)
    except DatabaseError as error:
        raise PostgresAway(str(error)) from error
    if not (user.is_active and getattr(user, "is_staff", False)):
        return None
    is_super = bool(getattr(user, "is_superuser", False))
    return Caller(
        account, None, frozenset(SCOPES if is_super else {"read"}),
        user.get_username(),
    )
