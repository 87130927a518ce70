"""Names that receivers read as reserved ones are refused like those."""

import pytest

from apps.webhooks.request import wrong_headers


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("webhook_id", "signed by the service"),
        ("Webhook_Signature", "signed by the service"),
        ("webhook.id", "signed by the service"),
        ("timer_attempt", "set by the service"),
        ("TIMER_DUE_AT", "set by the service"),
        ("transfer_encoding", "frames the request"),
        ("Content_Length", "frames the request"),
        ("keep_alive", "the connection"),
        ("proxy_authorization", "the connection"),
        ("accept_encoding", "no compression"),
        ("content_type", "write it so"),
        ("USER_AGENT", "write it so"),
    ],
)
def test_an_underscore_hides_no_reserved_name(name: str, words: str) -> None:
    ((named, sentence),) = wrong_headers({name: "x"})
    assert named == name
    assert words in sentence
    assert "-" in sentence  # how it is read


@pytest.mark.parametrize(
    "name",
    ["x_tenant", "webhooks_id", "timerattempt", "web_hook-id", "contentlength",
     "x.y", "content-type", "user-agent", "x-content_type", "host_name"],
)
def test_other_names_may_have_underscores(name: str) -> None:
    assert list(wrong_headers({name: "text/plain"})) == []
