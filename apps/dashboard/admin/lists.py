"""What the admin's lists have in common: they are read, and never counted.

Each list is in the order of an index, and ends after MOST rows. What is
further away is found by searching.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Expression, Model, QuerySet
from django.http import HttpRequest

from apps.accounts.authors import Author, source

#: Rows of a list, at most.
MOST = 1_000


class FirstRows(Paginator):  # type: ignore[type-arg]
    """Pages of the first MOST rows: only these are counted."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, up to MOST."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows[:MOST].count()


class OneOrder(ChangeList):
    """A list that has one order, whatever a request asks for."""

    def get_ordering(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> list[Expression | str]:
        """Return the order, which an index has."""
        return list(self.model_admin.ordering or ())


class LookOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows to look at. What changes them goes through the services."""

    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = FirstRows
    sortable_by = ()
    view_on_site = False

    def get_changelist(
        self, request: HttpRequest, **values: Any
    ) -> type[ChangeList]:
        """Return the kind of list."""
        return OneOrder

    def lookup_allowed(
        self, lookup: str, value: str, request: HttpRequest | None = None
    ) -> bool:
        """Refuse filters in the address: few of them have an index."""
        return False

    def has_view_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        """Let all staff look; the site lets nobody else in."""
        return True

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Let all staff look."""
        return True

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Add nothing."""
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        """Change nothing."""
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        """Delete nothing."""
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Let superusers use the actions."""
        return bool(getattr(request.user, "is_superuser", False))


def author(request: HttpRequest, account: int) -> Author:
    """Return a user of the admin as the author of a change."""
    return Author(
        account, operator=f"{request.user.get_username()}: admin",
        address=source(request),
    )


def chosen(queryset: QuerySet[Any], *columns: str) -> Sequence[Any]:
    """Return columns of the rows that are ticked, MOST at most."""
    return list(queryset.values_list(*columns)[:MOST])
