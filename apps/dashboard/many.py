"""What can be done with many timers from the page Timers: count, then do."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

import pydantic
from django.conf import settings
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    QueryDict,
)
from django.views.decorators.http import require_http_methods

from apps.accounts.authors import Author, author_of
from apps.core.callers import account_of
from apps.dashboard import filters
from apps.dashboard.pages import failure, page, show
from apps.timers import bulk, services
from apps.timers.models import GAVE_UP
from apps.timers.storage.records import TimerFilter

#: Timers that are changed at once, at most.
MOST = 10_000
#: Timers that can be selected one by one, at most.
_MOST_SELECTED = 1_000
_WAITING = ("scheduled", "deferred", "retrying")


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do with timers.

    statuses  of the timers that it can be done with
    usual     of those that are meant if no status is asked for
    """

    title: str
    done: str
    says: str
    statuses: Collection[str]
    usual: Sequence[str]


ACTIONS = {
    "cancel": Action(
        "Cancel", "cancelled", "They will not be called.", _WAITING, _WAITING
    ),
    # An unknown one may have been received.
    "replay": Action(
        "Replay", "replayed",
        "They are called again now, each with the webhook-id that it had.",
        GAVE_UP, ("failed", "missed"),
    ),
    "move": Action(
        "Move", "moved", "They are called after the seconds that you enter.",
        _WAITING, _WAITING,
    ),
}


class Wrong(Exception):
    """What is asked for makes no sense; the text says why."""


@require_http_methods(["GET", "POST"])
@page
def many(request: HttpRequest, action: str) -> HttpResponse:
    """Say how many timers are meant; when that is confirmed, do it."""
    if action not in ACTIONS:
        raise Http404
    try:
        if request.method == "POST":
            return _do(request, action)
        return _ask(request, action, request.GET)
    except pydantic.ValidationError as error:
        sentences = filters.sentences(error).items()
        text = "; ".join(f"{field} {why}" for field, why in sentences)
    except (Wrong, services.UnknownPlace) as error:
        text = str(error)
    return failure(request, 422, "That can't be done", text)


def _ask(
    request: HttpRequest,
    name: str,
    query: QueryDict,
    refusal: str | None = None,
) -> HttpResponse:
    action, account = ACTIONS[name], account_of(request)
    others: Counter[str] = Counter()
    if ids := _selected(query):
        standing = bulk.standing(account, ids)
        count = sum(standing.pop(each, 0) for each in action.statuses)
        others = standing
    else:
        count = services.count_timers(account, _all(query, action), MOST)
    return show(
        request,
        "dashboard/many.html",
        422 if refusal else 200,
        name=name,
        action=action,
        count=count,
        most=MOST,
        others=list(_reasons(name, others)),
        ids=ids,
        given=filters.given(query),
        back=filters.link(filters.given(query)),
        refusal=refusal,
    )


def _do(request: HttpRequest, name: str) -> HttpResponse:
    by, query = author_of(request), request.POST
    found_by = "id"
    action = ACTIONS[name]
    delay = timedelta(0)
    if name == "move":
        try:
            delay = seconds(query.get("seconds", ""))
        except Wrong as error:
            return _ask(request, name, query, str(error))
    ids = _selected(query)
    if not ids:
        found_by = ", ".join(filters.filled(filters.given(query)))
        # No more than were agreed to.
        limit = _count(query.get("count", ""))
        found, _ = services.find_timers(
            by.account, _all(query, action), limit
        )
        ids = [timer.id for timer in found]
    left = _others(by, name, ids, found_by, delay)
    standing = bulk.standing(by.account, left) if left else {}
    answer = {
        "did": name, "changed": len(ids) - len(left), "of": len(ids),
        "why": [f"{how}:{count}" for how, count in standing.items()],
    }
    link = filters.link(filters.given(query))
    return HttpResponseRedirect(f"{link}&{urlencode(answer, doseq=True)}")


def _others(
    by: Author,
    name: str,
    ids: Sequence[UUID],
    found_by: str,
    delay: timedelta,
) -> list[UUID]:
    """Do it; return the timers with which it could not be done."""
    if name == "replay":
        return services.replay_timers(by, ids, found_by)
    if name == "move":
        done = bulk.move(by, ids, delay, found_by)
    else:
        done = bulk.cancel(by, ids, found_by)
    return [each for each in ids if each not in done]


def _selected(query: QueryDict) -> list[UUID]:
    """Return the timers that are selected; none if all that match are meant.

    Raises Wrong.
    """
    if query.get("all"):
        return []
    try:
        ids = list(dict.fromkeys(map(UUID, query.getlist("id"))))
    except ValueError:
        raise Wrong("A timer's id must be a UUID.") from None
    if not ids:
        raise Wrong(
            "No timer is selected. Go back, and select some, or all that"
            " match."
        )
    if len(ids) > _MOST_SELECTED:
        raise Wrong(f"At most {_MOST_SELECTED:,} timers can be selected.")
    return ids


def _all(query: QueryDict, action: Action) -> TimerFilter:
    """Return the filter for all that match; raise Wrong if that is all."""
    given = filters.given(query)
    if not filters.filled(given):
        raise Wrong(
            "Without a filter these would be all timers. Go back, and fill in"
            " a filter first."
        )
    of = filters.query(given).timer_filter()
    statuses = [each for each in of.statuses if each in action.statuses]
    if of.statuses and not statuses:
        raise Wrong(
            f"These are {' or '.join(of.statuses)}: none can be"
            f" {action.done}."
        )
    return replace(of, statuses=statuses or action.usual, after=None)


def seconds(text: str) -> timedelta:
    """Return how long from now on somebody asks for; raise Wrong."""
    most = settings.MAX_TIMER_DAYS * 86_400
    is_number = text.isascii() and text.isdigit() and len(text) < 12
    if not is_number or int(text) > most:
        raise Wrong(f"The seconds must be a whole number, {most:,} at most.")
    return timedelta(seconds=int(text))


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) <= MOST:
        raise Wrong("How many timers are meant is not said. Go back.")
    return int(text)


def result(query: QueryDict) -> dict[str, object] | None:
    """Return what came of an action, from the address of the list."""
    name = query.get("did", "")
    numbers = query.get("changed", ""), query.get("of", "")
    if name not in ACTIONS or not all(map(_is_number, numbers)):
        return None
    parts = [each.partition(":") for each in query.getlist("why")]
    standing = Counter(
        {how: int(count) for how, _, count in parts if _is_number(count)}
    )
    return {
        "done": ACTIONS[name].done,
        "changed": int(numbers[0]),
        "of": int(numbers[1]),
        "others": list(_reasons(name, standing)),
    }


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None


def _reasons(
    name: str, standing: Counter[str]
) -> Iterator[tuple[int, str]]:
    """Yield how many timers can't be changed, and why."""
    words = _WHY_NOT_REPLAYED if name == "replay" else _WHY_NOT
    for how, count in sorted(standing.items()):
        if how in words:
            yield count, words[how]


_ENDED = {
    each: f"ended before: {each}"
    for each in ("delivered", "failed", "unknown", "missed", "cancelled")
}
_UNWRITABLE = "can't be written, or changed just now"
_WHY_NOT = {
    **_ENDED,
    **dict.fromkeys(_WAITING, _UNWRITABLE),
    "often": "ended before: failed",
    "erased": "ended before, and erased",
    "firing": "being called right now",
    "called": "called before, and may have been received",
    "gone": "there no more",
}
_WHY_NOT_REPLAYED = {
    **{
        each: f"did not give up: {each}"
        for each in (*_WAITING, "firing", "delivered", "cancelled")
    },
    **{
        each.value: "named by a key that another timer has by now, or"
        " can't be written"
        for each in GAVE_UP
    },
    "called": "waiting to be called again",
    "often": "tried too often",
    "erased": "erased",
    "gone": "there no more",
}
