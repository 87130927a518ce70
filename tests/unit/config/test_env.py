"""Settings from the environment: what is taken; bad values are named."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.webhooks.signing import public_key
from config import env


def read_whole(name: str) -> object:
    return env.whole(name, 64, least=1, most=1024)


def read_choice(name: str) -> object:
    return env.choice(name, "text", "json")


def read_on(name: str) -> object:
    return env.flag(name, default=True)


def read_address(name: str) -> object:
    return env.address(name, "::")


def read_words(name: str) -> object:
    return env.words(name, "localhost, ::1")


Reader = Callable[[str], Any]
NEW = "whsec_bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4="
OLD = "whsec_b29vb29vb29vb29vb29vb29vb29vb29v"
SEED = "whsk_bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4="
PAIR = (
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dR"
    "qSKJp4AJ6p9lMicMFs6Kvg=="
)
NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("read", "raw", "value"),
    [
        (env.text, None, ""),
        (env.text, "  amqp://x ", "amqp://x"),
        (read_whole, None, 64),
        (read_whole, "", 64),
        (read_whole, " 1 ", 1),
        (read_whole, "1024", 1024),
        (env.flag, None, False),
        (env.flag, "1", True),
        (env.flag, "True", True),
        (env.flag, "yes", True),
        (env.flag, "ON", True),
        (env.flag, "0", False),
        (env.flag, "off", False),
        (read_choice, None, "text"),
        (read_choice, "json", "json"),
        (read_words, None, ("localhost", "::1")),
        (read_words, "", ()),
        (read_words, " a,, b ,", ("a", "b")),
        (read_on, None, True),
        (read_on, "", True),
        (read_on, "0", False),
        (read_address, None, "::"),
        (read_address, " 127.0.0.1 ", "127.0.0.1"),
        (env.networks, None, ()),
        (env.networks, "", ()),
        (env.networks, "10.0.0.0/8, fd00::/8", NETWORKS),
    ],
)
def test_what_a_variable_means(
    read: Reader, raw: str | None, value: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("A_SETTING", raising=False)
    if raw is not None:
        monkeypatch.setenv("A_SETTING", raw)
    assert read("A_SETTING") == value


@pytest.mark.parametrize(
    ("read", "raw"),
    [
        *((read_whole, raw) for raw in ("0", "1025", "-1", "1.5", "ten")),
        *((env.flag, raw) for raw in ("2", "y", "maybe")),
        *((read_choice, raw) for raw in ("JSON", "xml")),
        *((read_address, raw) for raw in ("localhost", "127.0.0.1:80")),
        *((env.networks, raw) for raw in ("10.0.0.1/8", "loopback", "1/99")),
        *((env.database, raw) for raw in ("nonsense", "mysql://h:secret@x")),
    ],
)
def test_a_bad_value_names_its_variable(
    read: Reader, raw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SETTING", raw)
    with pytest.raises(ImproperlyConfigured, match="A_SETTING") as caught:
        read("A_SETTING")
    assert "secret" not in str(caught.value)


def test_signing_keys_come_in_the_order_of_their_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("A_SETTING", raising=False)
    assert env.signing_keys("A_SETTING") == ()
    monkeypatch.setenv("A_SETTING", f"{NEW}, {OLD},")
    assert env.signing_keys("A_SETTING") == (b"n" * 32, b"o" * 24)


def test_private_keys_come_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("A_SETTING", raising=False)
    assert env.private_keys("A_SETTING") == ()
    monkeypatch.setenv("A_SETTING", f"{SEED}, {PAIR},")
    seed, pair = env.private_keys("A_SETTING")
    assert seed.private_bytes_raw() == b"n" * 32
    assert public_key(pair) == (
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
    )


@pytest.mark.parametrize(
    ("read", "prefix", "raw"),
    [
        *((env.signing_keys, "whsec_", raw)
          for raw in (OLD[6:], f"{NEW},{OLD[:-1]}", NEW[:20])),
        *((env.private_keys, "whsk_", raw)
          for raw in (SEED[5:], f"{PAIR},{SEED[:-1]}", NEW)),
    ],
)  # fmt: skip
def test_a_bad_key_is_not_told(
    read: Reader, prefix: str, raw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SETTING", raw)
    told = (
        rf"^A_SETTING .+ of the form {prefix}<base64>: .+\."
        rf" Make one with: echo {prefix}\$\(openssl rand -base64 32\)$"
    )
    with pytest.raises(ImproperlyConfigured, match=told) as caught:
        read("A_SETTING")
    assert raw[6:12] not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected", "options"),
    [
        (
            "postgresql://user:p%40ss@host:6543/name?sslmode=verify-full",
            ("name", "user", "p@ss", "host", "6543"),
            {"sslmode": "verify-full"},
        ),
        ("postgres://host/name", ("name", "", "", "host", ""), {}),
        (
            "postgresql:///name?host=/run/postgresql",
            ("name", "", "", "/run/postgresql", ""),
            {},
        ),
        (
            "postgresql://a,b/name",
            ("name", "", "", "a,b", ","),
            {"target_session_attrs": "primary"},
        ),
        (
            "postgresql://a:1,b:2/name?target_session_attrs=read-write",
            ("name", "", "", "a,b", "1,2"),
            {"target_session_attrs": "read-write"},
        ),
    ],
)
def test_a_database_url_is_what_libpq_makes_of_it(
    url: str, expected: tuple[str, ...], options: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_SETTING", url)
    entry = env.database("A_SETTING")
    names = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
    assert tuple(entry[name] for name in names) == expected
    assert entry["OPTIONS"] == options


@pytest.mark.parametrize(
    ("raw", "read"),
    [("", "127.0.0.1"), (" 0.0.0.0 ", "0.0.0.0"), ("::", "::")],
)
def test_an_address_to_listen_on(
    raw: str, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SETTING", raw)
    assert env.address("A_SETTING", "127.0.0.1") == read


@pytest.mark.parametrize("raw", ["localhost", "1.2.3", "*", "1.2.3.4:9100"])
def test_an_address_is_no_name(
    raw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SETTING", raw)
    with pytest.raises(ImproperlyConfigured, match="must be an IP address"):
        env.address("A_SETTING", "127.0.0.1")
