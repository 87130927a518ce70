"""The endpoint that erases what timers called and were answered."""

from uuid import UUID

from django.http import HttpRequest
from ninja import Router
from pydantic import BaseModel, ConfigDict, Field, model_validator

from apps.accounts.authors import author_of
from apps.core.callers import account_of
from apps.timers import erasing
from apps.timers.api.fields import wrong
from apps.timers.api.finding import Label, pair
from apps.timers.api.schemas import ErrorOut

router = Router(tags=["timers"])


class EraseIn(BaseModel):
    """Which timers to erase: some ids, or those with a label."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {
        "label": "user:17", "cancel": True,
    }})

    ids: list[UUID] | None = Field(
        default=None,
        min_length=1,
        max_length=erasing.PAGE,
        description="Instead of a label.",
    )
    label: Label | None = Field(
        default=None,
        description="A label's name and value, with a colon between them: the"
        f" first {erasing.PAGE} timers that have it.",
    )
    cancel: bool = Field(
        default=False,
        strict=True,
        description="Cancel those that wait first. Else they are left as they"
        " are.",
    )
    dry_run: bool = Field(
        default=False, strict=True, description="Erase nothing, only look."
    )

    @model_validator(mode="after")
    def _is_one(self) -> "EraseIn":
        if (self.ids is None) == (self.label is None):
            raise wrong("must have either ids or a label")
        return self


class ErasedOut(BaseModel):
    """What was erased."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "found": 3, "erased": 2, "has_more": False,
        "not_ended": ["01a21bd8-6054-705a-b288-d4e597a0b251"],
    }})

    found: int = Field(description="How many timers there are.")
    erased: int = Field(
        default=0, description="How many were erased, and were not before."
    )
    not_ended: list[UUID] = Field(
        default=[],
        description="These wait, or are being called: they were not erased.",
    )
    has_more: bool = Field(
        default=False,
        description="Whether more timers have the label: repeat the request.",
    )


@router.post(
    "/timers/erase",
    response={
        200: ErasedOut,
        frozenset({400, 403, 408, 413, 422, 503}): ErrorOut,
    },
    summary="Erase timers",
)
def erase_timers(request: HttpRequest, body: EraseIn) -> ErasedOut:
    """Erase what timers called and were answered, their keys and labels.

    Their ids, hosts, times and outcomes stay. Only what has ended is erased.
    """
    account = account_of(request)
    if body.ids is not None:
        found, has_more = erasing.by_ids(account, body.ids), False
    else:
        assert body.label is not None
        found, has_more = erasing.first(account, pair(body.label))
    if body.dry_run:
        return ErasedOut(
            found=len(found), not_ended=erasing.living(found),
            has_more=has_more,
        )
    erased, others = erasing.erase(
        author_of(request), found, "id" if body.label is None else "label",
        cancels=body.cancel,
    )
    return ErasedOut(
        found=len(found), erased=erased, not_ended=others, has_more=has_more
    )
