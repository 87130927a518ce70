"""Timers and their attempts in Django's admin."""

from collections import defaultdict
from collections.abc import Callable, Collection
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from apps.accounts.authors import Author
from apps.accounts.models import Account
from apps.dashboard.admin.lists import MOST, LookOnly, author, chosen
from apps.timers import bulk, services
from apps.timers.models import STATUS, Timer
from apps.timers.storage import looking, searching
from apps.timers.storage.limiting import LimitReached

#: The latest attempts, which a timer's page has.
_ATTEMPTS = 100


class TimerAdmin(LookOnly):
    """Timers of all accounts, the latest first.

    Headers, body and answers are not shown: they may be secret.
    """

    list_display = ("id", "account", "status", "due_at", "host", "key")
    fields = (
        "id", "account", "status", "method", "url", "host", "key", "labels",
        "created_at", "due_at", "next_at", "queued_at", "fired_at",
        "leased_until", "sent_at", "replayed_at", "outcome", "status_code",
        "error", "deferred", "at_least_once", "retry", "max_lateness",
        "version", "attempts_made",
    )
    readonly_fields = ("account", "status", "attempts_made")
    ordering = ("-id",)
    search_fields = ("id", "key", "labels")
    search_help_text = (
        "an id, a key or its beginning and *, or a label such as user:17"
    )
    actions = ("cancel", "fire", "replay")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Timer]:
        """Return timers with what is shown of them."""
        names = Account.objects.filter(pk=OuterRef("account_id"))
        timers: QuerySet[Timer] = super().get_queryset(request)
        return timers.defer("headers", "body").annotate(
            shown_account=Subquery(names.values("name")), shown_status=STATUS
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Timer], search_term: str
    ) -> tuple[QuerySet[Timer], bool]:
        """Return the timers that have this id, key or label."""
        if not (text := search_term.strip()):
            return queryset, False
        found = searching.search(text, MOST)
        return queryset.filter(pk__in=found), False

    @admin.display(description="account")
    def account(self, timer: Timer) -> str:
        """Return the account's name."""
        return str(timer.shown_account)  # type: ignore[attr-defined]

    @admin.display(description="status")
    def status(self, timer: Timer) -> str:
        """Return the status, as the API has it."""
        return str(timer.shown_status)  # type: ignore[attr-defined]

    @admin.display(description="attempts")
    def attempts_made(self, timer: Timer) -> SafeString:
        """Return the latest attempts, a line each.

        They have no page of their own: Django's admin takes no table whose
        primary key has two columns.
        """
        found = looking.attempts(timer.account_id, timer.id)[-_ATTEMPTS:]
        return format_html_join(
            "", "<div>{}: sent {}, {} {}</div>",
            (
                (each.number, each.sent_at or "never",
                 each.status_code or "no answer", each.error or "")
                for each in found
            ),
        )

    @admin.action(description="Cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Timer]) -> None:
        """Cancel those that wait."""
        self._act(request, queryset, "cancelled", bulk.cancel)

    @admin.action(description="Fire now", permissions=["act"])
    def fire(self, request: HttpRequest, queryset: QuerySet[Timer]) -> None:
        """Fire those that wait."""
        self._act(request, queryset, "fired", bulk.fire)

    @admin.action(description="Replay", permissions=["act"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Timer]) -> None:
        """Replay those that gave up."""
        self._act(request, queryset, "replayed", _replay)

    def _act(
        self,
        request: HttpRequest,
        queryset: QuerySet[Timer],
        done: str,
        act: Callable[[Author, list[UUID], str], Collection[UUID]],
    ) -> None:
        """Do something with timers, one account after the other."""
        of: dict[int, list[UUID]] = defaultdict(list)
        for timer_id, account in chosen(queryset, "id", "account_id"):
            of[account].append(timer_id)
        count = 0
        for account, ids in sorted(of.items()):
            try:
                count += len(act(author(request, account), ids, "id"))
            except LimitReached as error:
                refusal = error.args[0].standing.refusal
                self.message_user(request, refusal, messages.ERROR)
        others = sum(map(len, of.values())) - count
        self.message_user(
            request,
            f"{count} {done}."
            + (f" {others} could not be, as they are now." if others else ""),
            messages.WARNING if others else messages.SUCCESS,
        )


def _replay(by: Author, timer_ids: list[UUID], found_by: str) -> set[UUID]:
    others = services.replay_timers(by, timer_ids, found_by)
    return set(timer_ids) - set(others)
