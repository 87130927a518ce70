"""The items of a request for many timers, and what is answered to each."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from apps.core.answers import MOST_ERRORS, cut
from apps.core.sentences import Names, field_errors
from apps.timers import services
from apps.timers.api.bulk_body import MOST_ITEM, Raw
from apps.timers.api.definition import RetryIn
from apps.timers.api.schemas import TimerIn
from apps.timers.storage.bulk import Answer, Unwritable
from apps.timers.storage.limiting import Refused
from apps.timers.storage.records import KeyTaken, NamedTimer
from apps.webhooks import jsontext

#: How many items are answered with all that is wrong. Any more are answered
#: with the first error, cut short: else an answer could be a hundred times as
#: long as the request.
MOST_WRONG = 10_000
_SHORT = 100

Errors = list[tuple[str, str]]


class Wanted(NamedTuple):
    """A timer that is to be stored, and what is answered then."""

    timer: NamedTimer
    time_left: int


def read_item(account: int, raw: Raw) -> Wanted | Errors:
    """Return the timer that an item asks for, or what is wrong with it.

    It will belong to the account. Raises PostgresAway.
    """
    if raw is None:
        return [("body", f"is longer than {MOST_ITEM:,} bytes")]
    try:
        services.check_body(account, len(raw))
    except services.BodyTooLong as error:
        (most,) = error.args
        return [
            ("body", f"is longer than {most:,} bytes, the account's limit")
        ]
    try:
        item = TimerIn.model_validate(jsontext.loads(raw))
    except jsontext.NotJSON as error:
        return [("body", f"must be a JSON object: {error}")]
    except ValidationError as error:
        return _errors(error)
    when = item.when()
    timer = services.new_timer(
        account, item.definition, when.delay, when.due_at
    )
    return Wanted(NamedTimer(timer, item.key), when.time_left)


def _errors(error: ValidationError) -> Errors:
    found = error.errors(include_url=False, include_input=False)
    return [
        pair
        for each in found[:MOST_ERRORS]
        for pair in field_errors(each, each["loc"], _fields)
    ]


def _fields(names: Names) -> list[str]:
    model = RetryIn if names and names[0] == "retry" else TimerIn
    return list(model.model_fields)


class Answers:
    """Renders what is answered to each item: a line of JSON."""

    def __init__(self) -> None:
        self._wrong = 0

    def of(
        self, items: Sequence[Wanted | Errors]
    ) -> Callable[[Sequence[Answer]], bytes]:
        """Return what renders the answers to the timers among the items."""

        def render(answers: Sequence[Answer]) -> bytes:
            given = iter(answers)
            return "".join([
                self._line(item, next(given))
                if isinstance(item, Wanted)
                else self._refusal(item)
                for item in items
            ]).encode()

        return render

    def _line(self, item: Wanted, answer: Answer) -> str:
        if isinstance(answer, KeyTaken):
            sentence = (
                f"belongs to timer {answer.timer_id}, which has not ended"
            )
            return self._refusal([("key", sentence)], id=str(answer.timer_id))
        if isinstance(answer, Refused):
            return self._refusal([("account", answer.standing.refusal)])
        if isinstance(answer, Unwritable):
            return self._refusal([("body", f"can't be stored: {answer.why}")])
        timer_id = item.timer.timer.id
        return f'{{"id":"{timer_id}","time_left":{item.time_left}}}\n'

    def _refusal(self, errors: Errors, **more: Any) -> str:
        self._wrong += 1
        most = 1000
        if self._wrong > MOST_WRONG:
            errors, most = errors[:1], _SHORT
        told = [
            {"field": field, "message": cut(message, most)}
            for field, message in errors
        ]
        line = json.dumps({"errors": told, **more}, ensure_ascii=False)
        return f"{line}\n"
