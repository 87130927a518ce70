"""Asking before an action, on a page of its own, as Django's deletion does."""

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from apps.accounts.models import Account
from apps.dashboard.admin.lists import LookOnly, chosen

Act = Callable[[Any, HttpRequest, QuerySet[Any]], None]
Action = Callable[[Any, HttpRequest, QuerySet[Any]], TemplateResponse | None]


def confirmed(act: Act) -> Action:
    """Return an action that asks first, and says of how many rows.

    What is then done is done to the rows that were counted, at most.
    """

    @wraps(act)
    def action(
        admin: LookOnly, request: HttpRequest, queryset: QuerySet[Any]
    ) -> TemplateResponse | None:
        if request.POST.get("confirmed") == "yes":
            act(admin, request, queryset)
            return None
        title = getattr(action, "short_description", act.__name__)
        rows = chosen(queryset, "pk", "account_id")
        return TemplateResponse(request, "admin/confirm.html", {
            **admin.admin_site.each_context(request),
            "opts": admin.opts, "verb": title, "name": act.__name__,
            "checkbox": ACTION_CHECKBOX_NAME, "ids": [key for key, _ in rows],
            "counts": _by_name(Counter(account for _, account in rows)),
        })

    return action


def _by_name(counts: Counter[int]) -> list[tuple[str, int]]:
    """Return how many rows each account has, by the accounts' names."""
    names = Account.objects.in_bulk(counts)
    return sorted((names[each].name, counts[each]) for each in counts)
