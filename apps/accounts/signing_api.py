"""The endpoints of an account's signing secrets."""

from datetime import datetime
from typing import Annotated, Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Path, Router, Status
from ninja.errors import HttpError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from apps.accounts import signing
from apps.accounts.api import error, future
from apps.accounts.authors import author_of
from apps.accounts.signing import Kind
from apps.accounts.signing_storage import MOST_SECRETS, TooManySecrets
from apps.core.callers import account_of
from apps.core.remembered import LIFETIME

router = Router(tags=["account"])

_ID = "4f1c2a9b7d3e"
_KIND = (
    "v1: HMAC-SHA-256, receivers have the secret. v1a: Ed25519, receivers have"
    " the public key."
)


class SigningSecretIn(BaseModel):
    """A signing secret to be created."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {
        "kind": "v1", "others_end_at": "2099-01-31T12:00:00Z",
    }})

    kind: Kind = Field(default="v1", description=_KIND)
    others_end_at: Annotated[
        datetime | None, BeforeValidator(future)
    ] = Field(
        default=None,
        description="Until when the account's others of this kind sign as"
        " well. RFC 3339 with an offset. Left out: until they are revoked.",
    )


class SigningSecretOut(BaseModel):
    """A signing secret, without what is secret of it."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "id": _ID, "kind": "v1", "public_key": None,
        "created_at": "2026-01-31T12:00:00Z", "ends_at": None,
    }})

    id: str = Field(description="It names the secret, and is none.")
    kind: Kind = Field(description=_KIND)
    public_key: str | None = Field(description="Of v1a only.")
    created_at: datetime
    ends_at: datetime | None = Field(description="Until when it signs.")


class SigningSecretsOut(BaseModel):
    """The account's secrets that sign."""

    signing_secrets: list[SigningSecretOut]


class SigningSecretCreated(BaseModel):
    """A signing secret that was created."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "id": _ID, "secret": "whsec_…", "public_key": None,
    }})

    id: str
    secret: str | None = Field(
        description="Of v1: what receivers verify with. It is shown only once."
    )
    public_key: str | None = Field(
        description="Of v1a: what receivers verify with."
    )


@router.get(
    "/account/signing-secrets",
    response=SigningSecretsOut,
    summary="List signing secrets",
)
def list_signing_secrets(request: HttpRequest) -> dict[str, Any]:
    """Return the account's secrets that sign."""
    return {
        "signing_secrets": [
            SigningSecretOut.model_validate(each, from_attributes=True)
            for each in signing.list_secrets(account_of(request))
        ]
    }


@router.post(
    "/account/signing-secrets",
    response={201: SigningSecretCreated},
    summary="Create a signing secret",
    description="Create a secret, which signs the account's calls from now on,"
    f" within {LIFETIME:g} s, beside its others.",
    openapi_extra=error(
        409, f"The account has {MOST_SECRETS} secrets that sign."
    ),
)
def create_signing_secret(
    request: HttpRequest, body: SigningSecretIn, response: HttpResponse
) -> Status[SigningSecretCreated]:
    """Create a secret. The answer has it, only this time."""
    try:
        made = signing.create(
            account_of(request), body.kind, author_of(request),
            body.others_end_at,
        )
    except TooManySecrets:
        raise HttpError(
            409,
            f"The account has {MOST_SECRETS} secrets that sign; revoke some.",
        ) from None
    response["Cache-Control"] = "no-store"
    is_secret = body.kind == "v1"
    return Status(201, SigningSecretCreated(
        id=made.id,
        secret=made.text if is_secret else None,
        public_key=None if is_secret else made.text,
    ))


@router.delete(
    "/account/signing-secrets/{secret_id}",
    response={204: None},
    summary="Revoke a signing secret",
    description=f"Revoke a secret of the account: {LIFETIME:g} s later no call"
    " is signed with it. Without any, calls are not signed.",
    openapi_extra=error(404, "The account has no such secret that signs."),
)
def revoke_signing_secret(
    request: HttpRequest,
    secret_id: Annotated[
        str,
        Path(
            pattern="^[0-9a-f]{12}$",
            description="The secret's id.",
            examples=[_ID],
        ),
    ],
) -> Status[None]:
    """Revoke a secret."""
    by = author_of(request)
    if not signing.revoke(secret_id, by, by.account):
        raise Http404(f"The account has no signing secret {secret_id}.")
    return Status(204, None)
