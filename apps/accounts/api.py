"""The endpoints of an account: its API keys."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Path, Router, Status
from ninja.errors import HttpError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from apps.accounts import services, storage
from apps.accounts.authors import author_of
from apps.accounts.scopes import SCOPES
from apps.core.callers import account_of
from apps.core.remembered import LIFETIME

router = Router(tags=["account"])

if TYPE_CHECKING:
    Scope = str
else:
    Scope = Literal[tuple(SCOPES)]

_PREFIX = "4hX2bQ9z"
_EXAMPLE: dict[str, Any] = {
    "prefix": _PREFIX,
    "scopes": ["read", "write"],
    "created_at": "2026-01-31T12:00:00Z",
    "expires_at": "2027-01-31T12:00:00Z",
    "last_used_at": None,
}


def error(status: int, meaning: str) -> dict[str, Any]:
    """Return what the API's document says of an error of one endpoint."""
    schema = {"$ref": "#/components/schemas/ErrorOut"}
    return {
        "responses": {
            status: {
                "description": meaning,
                "content": {"application/json": {"schema": schema}},
            }
        }
    }


def future(value: Any) -> datetime | None:
    """Take a moment in the future, with its offset."""
    if value is None:
        return None
    try:
        return services.future_moment(value)
    except ValueError as error:
        raise PydanticCustomError(
            "moment", "{sentence}", {"sentence": str(error)}
        ) from None


class KeyIn(BaseModel):
    """An API key to be created."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {
        "scopes": ["read", "write"], "expires_at": "2099-01-31T12:00:00Z",
    }})

    scopes: list[Scope] = Field(
        min_length=1,
        max_length=len(SCOPES),
        description="What it may do. "
        + "; ".join(f"{name}: {what}" for name, what in SCOPES.items())
        + ".",
    )
    expires_at: Annotated[datetime | None, BeforeValidator(future)] = Field(
        default=None,
        description="RFC 3339 with an offset. Left out: it does not expire.",
    )


class KeyOut(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    prefix: str = Field(description="It names the key, and is no secret.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")


class KeysOut(BaseModel):
    """The account's API keys that are not revoked."""

    keys: list[KeyOut]


class KeyCreated(BaseModel):
    """A key that was created."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "key": f"tsk_{_PREFIX}_…", "prefix": _PREFIX,
    }})

    key: str = Field(
        description="What requests send. It is shown only once."
    )
    prefix: str


@router.get("/account/keys", response=KeysOut, summary="List API keys")
def list_keys(request: HttpRequest) -> dict[str, Any]:
    """Return the account's API keys that are not revoked."""
    return {
        "keys": [
            KeyOut.model_validate(each, from_attributes=True)
            for each in services.list_keys(account_of(request))
        ]
    }


@router.post(
    "/account/keys",
    response={201: KeyCreated},
    summary="Create an API key",
    openapi_extra=error(409, f"The account has {storage.MOST_KEYS:,} keys."),
)
def create_key(
    request: HttpRequest, body: KeyIn, response: HttpResponse
) -> Status[KeyCreated]:
    """Create an API key of the account. The answer has it, only this time."""
    try:
        key = services.create_key(
            account_of(request), body.scopes, body.expires_at,
            author_of(request),
        )
    except storage.TooManyKeys:
        raise HttpError(
            409,
            f"The account has {storage.MOST_KEYS:,} keys that are not"
            " revoked; revoke some.",
        ) from None
    response["Cache-Control"] = "no-store"
    prefix = key.split("_")[1]
    return Status(201, KeyCreated(key=key, prefix=prefix))


@router.delete(
    "/account/keys/{prefix}",
    response={204: None},
    summary="Revoke an API key",
    description=f"Revoke a key of the account: {LIFETIME:g} s later no"
    " request with it is taken. To revoke it once more is fine.",
    openapi_extra=error(404, "The account has no such key."),
)
def revoke_key(
    request: HttpRequest,
    prefix: Annotated[
        str,
        Path(
            pattern="^[0-9A-Za-z]{8}$",
            description="What stands between the key's underscores.",
            examples=[_PREFIX],
        ),
    ],
) -> Status[None]:
    """Revoke a key."""
    account = account_of(request)
    if not services.revoke_key(prefix, account, author_of(request)):
        raise Http404(f"The account has no key {prefix}.")
    return Status(204, None)
