"""Headers, bodies and answers as rows have them: sealed, if there is a key.

The column `encrypted_with` of a row has the id of the key, NULL if there is
none. Sealed headers are a JSON string, the base64 of what is sealed.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from apps.core.rows import Row
from apps.core.sealing import KeyRing


def headers(
    keys: KeyRing, timer_ids: Iterable[UUID], texts: Sequence[str | None]
) -> list[str | None]:
    """Return a column of headers, given as JSON, as it is to be stored."""
    return [
        None if text is None else _string(
            keys.seal(text.encode(), place(timer_id, "headers"))
        )
        for timer_id, text in zip(timer_ids, texts, strict=True)
    ]


def bodies(
    keys: KeyRing, timer_ids: Iterable[UUID], values: Sequence[bytes | None]
) -> list[bytes | None]:
    """Return a column of bodies as it is to be stored."""
    return [
        None if value is None else keys.seal(value, place(timer_id, "body"))
        for timer_id, value in zip(timer_ids, values, strict=True)
    ]


def request(keys: KeyRing, row: Row) -> tuple[Any, bytes | None]:
    """Return the headers and the body of a timer's row that has a key.

    Raises ValueError, whose text tells nothing of them.
    """
    key_id, headers, body = row["encrypted_with"], row["headers"], row["body"]
    try:
        if headers is not None:
            headers = json.loads(
                keys.unseal(
                    key_id,
                    b64decode(headers, validate=True),
                    place(row["id"], "headers"),
                )
            )
        if body is not None:
            body = keys.unseal(key_id, body, place(row["id"], "body"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"its headers or body: {error}") from None
    return headers, body


def place(timer_id: UUID, column: str) -> str:
    """Return where a timer's value is stored, for `core.sealing`."""
    return f"timer {timer_id} {column}"


def answer_place(timer_id: UUID, number: int) -> str:
    """Return where an attempt's answer is stored, for `core.sealing`."""
    return f"attempt {timer_id} {number} answer"


def _string(sealed: bytes) -> str:
    return json.dumps(b64encode(sealed).decode())


def renewed(keys: KeyRing, row: Row) -> tuple[str | None, bytes | None]:
    """Return the headers, as JSON, and the body as the keys store them now.

    Raises ValueError if they can't be decrypted.
    """
    found, body = row["headers"], row["body"]
    if row["encrypted_with"] is not None:
        found, body = request(keys, row)
    text = None if found is None else json.dumps(found)
    if keys.current is not None:
        (text,) = headers(keys, [row["id"]], [text])
        (body,) = bodies(keys, [row["id"]], [body])
    return text, body


def renewed_answer(keys: KeyRing, row: Row) -> bytes:
    """Return an attempt's answer as the keys store it now.

    Raises ValueError if it can't be decrypted.
    """
    where = answer_place(row["id"], row["number"])
    answer = keys.unseal(row["encrypted_with"], row["answer"], where)
    return keys.seal(answer, where)
