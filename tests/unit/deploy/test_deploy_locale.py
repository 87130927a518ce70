"""Paths whose bytes the locale can't read."""

import io
import os

import pytest

from deploy.local.output import Output


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("path", [b"/d\xe4t", "/dät".encode()])
def test_a_path_is_told_in_its_own_bytes(path: bytes, as_json: bool) -> None:
    # What a path of these bytes is where the locale is ASCII
    text = path.decode("ascii", "surrogateescape")
    stream = io.BytesIO()

    output = Output(stream, as_json=as_json)
    output.say(f"data: {text}")
    output.show(f"Data: {text}")

    if not as_json:
        assert stream.getvalue().count(path) == 2
    assert os.fsencode(text) == path
    assert stream.getvalue().count(b"\n") == 2
