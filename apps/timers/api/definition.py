"""What a timer calls, and how: the fields that say it."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from apps.timers.api.fields import (
    Attempts,
    CallableURL,
    Headers,
    Labels,
    Lateness,
    Pause,
    wrong,
    wrong_parts,
)
from apps.timers.storage.records import Definition
from apps.webhooks.request import InvalidRequest, WebhookRequest, encode_body
from apps.webhooks.retry import RetryPolicy

Delivery = Literal["once", "at_least_once"]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Failure = Literal["status", "no_answer"]


def as_object(value: Any) -> Any:
    """Return a value that is null or an object of a bounded size."""
    if value is None or (isinstance(value, dict) and len(value) <= 20):
        return value
    raise wrong('must be an object such as {"max_attempts": 5}')


class RetryIn(BaseModel):
    """What is to be tried again, how often and when."""

    model_config = ConfigDict(extra="forbid")

    max_attempts: Attempts = Field(
        description="Calls in all, the first one included."
    )
    min_delay: Pause = Field(
        default=10,
        description="Seconds before the second call, doubled for each one"
        " after it, less up to half of it at random.",
    )
    max_delay: Pause = Field(
        default=3600,
        validate_default=True,
        description="Seconds that are not exceeded by that; a receiver's"
        " Retry-After may ask for more, up to an hour.",
    )
    on: list[Failure] | None = Field(
        default=None,
        description="What is tried again. status, always: an answer that is"
        " neither 2xx nor 410. no_answer: the request left, and no answer"
        " came, or none that can be read; it needs `at_least_once`, where it"
        " belongs to it unless `on` leaves it out.",
        examples=[["status"]],
        max_length=2,
        json_schema_extra={"minItems": 1, "uniqueItems": True},
    )

    @field_validator("max_delay")
    @classmethod
    def _not_below_min_delay(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("min_delay", 0)
        if value < least:
            raise wrong(
                f"is {value:,} (left out, it is 3,600); it must be min_delay,"
                f" {least:,}, or more"
            )
        return value

    @field_validator("on")
    @classmethod
    def _has_status_once(
        cls, value: list[Failure] | None
    ) -> list[Failure] | None:
        if value is not None and (
            "status" not in value or len(set(value)) < len(value)
        ):
            raise wrong(
                'must be ["status"] or ["status", "no_answer"], or be left'
                " out"
            )
        return value

    @classmethod
    def of(cls, policy: RetryPolicy) -> "RetryIn":
        """Return the fields that ask for a policy, even one out of bounds."""
        return cls.model_construct(
            max_attempts=policy.max_attempts,
            min_delay=policy.min_delay,
            max_delay=policy.max_delay,
            on=["status", "no_answer"] if policy.unanswered else ["status"],
        )


class DefinitionIn(BaseModel):
    """What is to be called, and how."""

    url: CallableURL = Field(
        description="Absolute http or https URL, called exactly as given:"
        " at most 2,048 characters, no user:password, a public host (or one"
        " in the server's WEBHOOK_ALLOWED_NETWORKS)."
    )
    delivery: Delivery = Field(
        default="once",
        description="at_least_once: should a worker die after the request"
        " left and before the answer came, the request is sent again.",
    )

    method: Method = Field(
        default="POST", description="Of the request that calls the URL."
    )
    headers: Headers = Field(
        default=None,
        description="Sent as given, names and values: at most 64, and 8 KiB"
        " with their names, of printable ASCII. `content-type` and"
        " `user-agent` replace the service's. Refused are those that are its"
        " own: `host`, `content-length`, `accept-encoding`, `expect`, those"
        " of the connection, `proxy-*`, `webhook-*` and `timer-*`, also with"
        " `_` in place of `-`.",
        examples=[{"authorization": "Bearer abc", "x-tenant": "7"}],
    )
    body: Any = Field(
        default=None,
        validate_default=True,
        description="Sent instead of the default body with POST, PUT or"
        " PATCH: any JSON, as compact JSON, its numbers digit for digit; or"
        " a string, sent as it is, if `headers` have a `content-type` that is"
        " not JSON. At most 64 KiB as sent, in UTF-8.",
        examples=[{"order": 7}, "text, with a content-type such as text/csv"],
    )
    retry: Annotated[RetryIn | None, BeforeValidator(as_object)] = Field(
        default=None,
        description="Left out, any answer is final. (A receiver that can't"
        " be connected to got nothing, and is called again for some time"
        " anyway.)",
        examples=[{"max_attempts": 5, "min_delay": 10, "max_delay": 3600}],
    )
    max_lateness: Lateness | None = Field(
        default=None,
        description="Seconds. If the call can't begin within them after its"
        " time, it is not made, and the timer ends as `missed`.",
        examples=[300],
    )
    labels: Labels = Field(
        default=None,
        description="To find timers by: up to 16 pairs. Names are made of"
        " a-z, 0-9, `.`, `_` and `-`, at most 64; values have up to 255"
        " characters. The default body's `data` has them, too.",
        examples=[{"user": "17", "kind": "reminder"}],
    )

    @field_validator("body")
    @classmethod
    def _encoded(cls, value: Any, info: ValidationInfo) -> bytes | None:
        try:
            return encode_body(
                value,
                info.data.get("method", "POST"),
                info.data.get("headers"),
            )
        except InvalidRequest as error:
            raise wrong(str(error)) from None

    @field_validator("retry")
    @classmethod
    def _only_what_delivery_allows(
        cls, value: RetryIn | None, info: ValidationInfo
    ) -> RetryIn | None:
        delivery = info.data.get("delivery")
        if value and "no_answer" in (value.on or ()) and delivery == "once":
            raise wrong_parts(
                (
                    "on",
                    'has "no_answer", which needs "delivery":'
                    ' "at_least_once": what left and was not answered may'
                    " have been received",
                )
            )
        return value

    @property
    def definition(self) -> Definition:
        """What the store keeps of it."""
        return Definition(
            self.url,
            WebhookRequest(self.method, self.headers, self.body),
            self.delivery == "at_least_once",
            self._retry_policy,
            self._lateness,
            self.labels,
        )

    @property
    def _retry_policy(self) -> RetryPolicy | None:
        if self.retry is None:
            return None
        unanswered = self.delivery == "at_least_once"
        if self.retry.on is not None:
            unanswered = "no_answer" in self.retry.on
        return RetryPolicy(
            self.retry.max_attempts,
            self.retry.min_delay,
            self.retry.max_delay,
            unanswered,
        )

    @property
    def _lateness(self) -> timedelta | None:
        if self.max_lateness is None:
            return None
        return timedelta(seconds=self.max_lateness)
