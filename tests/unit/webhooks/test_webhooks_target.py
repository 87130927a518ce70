"""What parse_target() takes, what it makes of it, and what it refuses."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.webhooks.target import (
    MAX_URL_LENGTH,
    InvalidURL,
    is_ip_literal,
    parse_target,
)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "request_target", "host_header"),
    [
        ("http://a.example", "http", "a.example", 80, "/", "a.example"),
        ("https://a.example/", "https", "a.example", 443, "/", "a.example"),
        ("HTTP://A.Example/P", "http", "a.example", 80, "/P", "a.example"),
        ("http://a:80/", "http", "a", 80, "/", "a"),
        ("http://a:443/", "http", "a", 443, "/", "a:443"),
        ("https://a:65535", "https", "a", 65535, "/", "a:65535"),
        ("https://a:1", "https", "a", 1, "/", "a:1"),
        ("http://a?q", "http", "a", 80, "/?q", "a"),
        ("http://a?", "http", "a", 80, "/?", "a"),
        ("http://a#f", "http", "a", 80, "/", "a"),
        ("http://a?q#f?g", "http", "a", 80, "/?q", "a"),
        ("http://my_service:8000/x", "http", "my_service", 8000, "/x", None),
        ("http://a.example./x", "http", "a.example.", 80, "/x", "a.example."),
        ("http://127.0.0.1/", "http", "127.0.0.1", 80, "/", "127.0.0.1"),
        ("http://web1/", "http", "web1", 80, "/", "web1"),
        ("http://1.example/", "http", "1.example", 80, "/", "1.example"),
        ("http://[::1]:81/", "http", "::1", 81, "/", "[::1]:81"),
        ("http://[0:0::1]", "http", "::1", 80, "/", "[::1]"),
        ("http://[::ffff:1.2.3.4]/", "http", "::ffff:102:304", 80, "/", None),
        ("http://bücher.example/", "http", "xn--bcher-kva.example", 80, "/",
         "xn--bcher-kva.example"),
        ("http://BÜCHER.example/", "http", "xn--bcher-kva.example", 80, "/",
         "xn--bcher-kva.example"),
        ("http://faß.example/", "http", "xn--fa-hia.example", 80, "/", None),
        ("http://例え。テスト/", "http", "xn--r8jz45g.xn--zckzah", 80, "/",
         None),
        ("http://１２７.０.０.１/", "http", "127.0.0.1", 80, "/", None),
    ],
)  # fmt: skip
def test_a_url_comes_apart(
    url: str,
    scheme: str,
    host: str,
    port: int,
    request_target: str,
    host_header: str | None,
) -> None:
    target = parse_target(url)

    assert target.scheme == scheme
    # The ipaddress module of Python 3.13 writes mapped addresses dotted.
    assert target.host in (host, "::ffff:1.2.3.4")
    assert target.port == port
    assert target.request_target == request_target
    if host_header is not None:
        assert target.host_header == host_header


@pytest.mark.parametrize(
    "raw",
    ["/%2f", "/%2F", "/p?", "/|[]{}", "//a/../b", "/%zz", "/a/./b/", "/?a=|[]",
     "/`^<>\"'", "/%", "/;p=1?q=a+b%20c&&", "/@:80/", "/http://b/"],
)  # fmt: skip
def test_path_and_query_stay_byte_for_byte(raw: str) -> None:
    assert parse_target(f"http://a{raw}").request_target == raw
    assert parse_target(f"http://a{raw}#x").request_target == raw


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "http://"),
        ("a.example/x", "http://"),
        ("//a.example/x", "http://"),
        ("/x", "http://"),
        ("ftp://a/", "http://"),
        ("http:/a", "http://"),
        ("http:a", "http://"),
        ("httpſ://a/", "http://"),
        ("javascript:alert(1)", "http://"),
        ("http://", "real host"),
        ("http:///x", "real host"),
        ("http://:80/", "real host"),
        ("http://./", "real host"),
        ("http://a..b/", "real host"),
        ("http://.a/", "real host"),
        ("http://-a/", "real host"),
        ("http://a-/", "real host"),
        ("http://a%62/", "real host"),
        ("http://a*b/", "real host"),
        ("http://[a]b/", "[address]"),
        ("http://" + "a" * 64 + "/", "real host"),
        ("http://" + "a." * 126 + "aa/", "real host"),
        ("http://a:/", "port"),
        ("http://a:0/", "port"),
        ("http://a:65536/", "port"),
        ("http://a:+80/", "port"),
        ("http://a:8_0/", "port"),
        ("http://a:٨٠/", "port"),
        ("http://a:80:80/", "port"),
        ("http://[::1]:x/", "port"),
        ("http://u@a/", "user name"),
        ("http://u:p@a/", "user name"),
        ("http://@a/", "user name"),
        ("http://a@b@c/", "user name"),
        ("http://127.1/", "four decimal"),
        ("http://2130706433/", "four decimal"),
        ("http://0x7f000001/", "four decimal"),
        ("http://0x7f.1/", "four decimal"),
        ("http://0177.0.0.1/", "four decimal"),
        ("http://127.0.0.01/", "four decimal"),
        ("http://127.0.0.0x1/", "four decimal"),
        ("http://127.0.0.256/", "four decimal"),
        ("http://1.2.3.4.5/", "four decimal"),
        ("http://127.0.0.1./", "four decimal"),
        ("http://a.1/", "four decimal"),
        ("http://a.0X/", "four decimal"),
        ("http://0/", "four decimal"),
        ("http://①/", "four decimal"),
        ("http://[::1/", "[address]"),
        ("http://[::1]x/", "[address]"),
        ("http://[1.2.3.4]/", "IPv6"),
        ("http://[v1.a]/", "IPv6"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://[fe80::1%eth0]/", "zone"),
        ("http://\u2460\u2060\u200b.\ufffd/", "xn--"),
        ("http://xn--\u00fc/", "xn--"),
        ("http://a b/", "%20"),
        ("http://a/ ", "%20"),
        (" http://a/", "%20"),
        ("http://a/\t", "%09"),
        ("http://a/\r\nX: y", "%0D"),
        ("http://a/\x00", "%00"),
        ("http://a/\x7f", "%7F"),
        ("http://a/#\n", "%0A"),
        ("http://a\\b/", "%5C"),
        ("http://a/\\", "%5C"),
        ("http://a/ä", "%C3%A4"),
        ("http://a/?q=€", "%E2%82%AC"),
        ("http://a/#😀", "%F0%9F%98%80"),
        ("http://a/\xa0", "%C2%A0"),
        ("http://a/\x85", "%C2%85"),
        ("http://a/\ud800", "%F0%9F%98%80"),
        ("http://\udfff/", "%F0%9F%98%80"),
        ("http://a/" + "b" * MAX_URL_LENGTH, "2,048"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused_with_a_hint(
    url: str, hint: str
) -> None:
    with pytest.raises(InvalidURL) as refusal:
        parse_target(url)

    assert hint in str(refusal.value)
    assert str(refusal.value).isascii()
    assert str(refusal.value).endswith(".")


def test_the_longest_url_passes() -> None:
    url = "http://a/"
    url += "b" * (MAX_URL_LENGTH - len(url))

    assert len(parse_target(url).request_target) == MAX_URL_LENGTH - 8


def check(url: str) -> None:
    try:
        target = parse_target(url)
    except InvalidURL as error:
        assert str(error).isascii()  # noqa: PT017
        return
    assert target.scheme in ("http", "https")
    assert 1 <= target.port <= 65535
    assert target.request_target.startswith("/")
    for sent in (target.request_target, target.host, target.host_header):
        assert sent
        assert all("\x21" <= char <= "\x7e" for char in sent)
    # What goes out is what was given.
    raw = url.split("#")[0]
    assert raw.endswith(target.request_target.removeprefix("/"))
    assert is_ip_literal(target.host) == (
        ":" in target.host or not target.host.strip(".0123456789")
    )


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    check(text)


@given(
    st.text(
        alphabet=string.printable + "äß\u2460\u3002\u200dxn-\ud800\U0001f600"
    ),
    st.text(alphabet=string.printable + "ä\ud800\x00"),
)
@example("xn--a", "")
@example("xn--\u00fc", "")
@example("\u00fc" * 64, "")
@example("\u0660.1", "")
@example("\u00fc.0x", "")
def test_any_host_and_path_are_parsed_or_refused(host: str, rest: str) -> None:
    check(f"http://{host}{rest}")
    check(f"https://{host}/{rest}")


@given(
    st.from_regex(r"\A/[\x21\x22\x24-\x5b\x5d-\x7e]{0,40}\Z"),
    st.from_regex(r"\A[a-z]([a-z0-9-]{0,10}[a-z])?\Z"),
    st.integers(1, 65535),
)
def test_what_is_given_goes_out(raw: str, host: str, port: int) -> None:
    target = parse_target(f"http://{host}:{port}{raw}")

    assert target.request_target == raw
    assert (target.host, target.port) == (host, port)
