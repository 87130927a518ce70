"""The page Keys: the account's API keys, and the log of who did what."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
)
from django.views.decorators.http import require_GET, require_POST

from apps.accounts import services
from apps.accounts.authors import author_of
from apps.accounts.log import DAYS_KEPT, UnknownEntry
from apps.accounts.scopes import SCOPES
from apps.accounts.storage import MOST_KEYS, TooManyKeys
from apps.core.callers import account_of, caller_of
from apps.core.remembered import LIFETIME
from apps.dashboard.filters import in_utc
from apps.dashboard.pages import page, show

PATH = "/dashboard/keys"
#: Entries of the log on a page.
_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Form:
    """The form for a new key, as it was filled in."""

    scopes: list[str]
    expires: str

    def expires_at(self) -> datetime | None:
        """Return when the key ends; raise ValueError with a sentence."""
        if not set(self.scopes) <= SCOPES.keys() or not self.scopes:
            raise ValueError("scopes: choose at least one")
        if not self.expires:
            return None
        try:
            return services.future_moment(in_utc(self.expires))
        except ValueError as error:
            raise ValueError(f"ends {error}") from None


@require_GET
@page
def keys(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    return _show(request)


@require_POST
@page
def create(request: HttpRequest) -> HttpResponse:
    """Create a key; the answer is the only page that shows it."""
    form = Form(
        request.POST.getlist("scopes"), request.POST.get("expires", "").strip()
    )
    try:
        key = services.create_key(
            account_of(request), form.scopes, form.expires_at(),
            author_of(request),
        )
    except ValueError as error:
        return _show(request, 422, form=form, refusal=str(error))
    except TooManyKeys:
        sentence = f"There are {MOST_KEYS:,} keys: revoke some."
        return _show(request, 409, form=form, refusal=sentence)
    return _show(request, 201, made=key)


@require_POST
@page
def revoke(request: HttpRequest, prefix: str) -> HttpResponse:
    """Revoke a key."""
    account = account_of(request)
    if not services.revoke_key(prefix, account, author_of(request)):
        raise Http404(f"There is no key {prefix}.")
    return HttpResponseRedirect(PATH)


def _show(
    request: HttpRequest, status: int = 200, **values: Any
) -> HttpResponse:
    return show(
        request,
        "dashboard/keys.html",
        status,
        **{"form": None, **values},
        **_log(request),
        keys=services.list_keys(account_of(request)),
        own=caller_of(request).key,
        scopes=SCOPES,
        lifetime=f"{LIFETIME:g}",
        is_required=settings.REQUIRE_API_KEY,
    )


def _log(request: HttpRequest) -> Mapping[str, Any]:
    """Return a page of the log."""
    try:
        after = UUID(text) if (text := request.GET.get("after")) else None
        entries, older = services.list_log(account_of(request), _SHOWN, after)
    except (ValueError, UnknownEntry):
        raise Http404(
            "The log has no such entry any more: begin with the latest."
        ) from None
    return {
        "entries": entries, "older": older, "days": DAYS_KEPT,
        "is_latest": after is None,
    }
