"""Accounts, API keys and the log in Django's admin."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from apps.accounts import services
from apps.accounts.models import Account, ApiKey, LogEntry
from apps.accounts.users import CHOSEN
from apps.dashboard.admin.lists import LookOnly, author, chosen


class AccountAdmin(LookOnly):
    """Accounts."""

    list_display = ("id", "name", "created_at")
    list_display_links = ("id", "name")
    ordering = ("id",)
    search_fields = ("name__startswith",)
    search_help_text = "the beginning of a name"
    actions = ("look",)

    @admin.action(description="See its pages")
    def look(
        self, request: HttpRequest, queryset: QuerySet[Account]
    ) -> HttpResponse:
        """Show the pages of the first of the accounts from now on."""
        for (account,) in chosen(queryset, "id")[:1]:
            request.session[CHOSEN] = account
        return HttpResponseRedirect("/")


class KeyAdmin(LookOnly):
    """API keys, also those that were revoked; never what they are made of."""

    list_display = (
        "prefix", "account", "scopes", "created_at", "last_used_at",
        "expires_at", "revoked_at",
    )
    list_select_related = ("account",)
    exclude = ("digest",)
    ordering = ("-created_at", "prefix")
    search_fields = ("prefix__exact", "account__name__exact")
    search_help_text = "a prefix, or an account's name"
    actions = ("revoke",)

    @admin.action(description="Revoke", permissions=["act"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Revoke keys."""
        keys = chosen(queryset, "prefix", "account_id")
        for prefix, account in keys:
            services.revoke_key(prefix, None, author(request, account))
        self.message_user(request, f"{len(keys)} revoked.")


class LogAdmin(LookOnly):
    """Who did what."""

    list_display = (
        "at", "account", "who", "address", "action", "count", "object",
    )
    list_select_related = ("account",)
    ordering = ("-at", "-id")
    search_fields = ("account",)
    search_help_text = "an account's name"

    @admin.display(description="who")
    def who(self, entry: LogEntry) -> str:
        """Return the author."""
        if entry.key:
            return f"key {entry.key}"
        return entry.operator or "without a key"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the entries of an account, which an index has."""
        if not search_term:
            return queryset, False
        found = list(
            Account.objects.filter(name=search_term.strip())
            .values_list("id", flat=True)
        )
        return queryset.filter(account_id__in=found), False
