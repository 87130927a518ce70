"""Without keys, the service serves this machine only."""

import os
import subprocess
import sys

import pytest
from django.core.checks import Error, run_checks
from pytest_django import Settings

from deploy import commands
from tests.support.service import ROOT


@pytest.mark.parametrize(
    ("address", "required", "is_wrong"),
    [
        ("127.0.0.1", False, False),
        ("127.0.0.2", False, False),
        ("::1", False, False),
        ("::", False, True),
        ("0.0.0.0", False, True),
        ("10.0.0.1", False, True),
        ("192.0.2.1", False, True),
        ("::", True, False),
        ("127.0.0.1", True, False),
    ],
)
def test_a_check_refuses_to_serve_others_without_keys(
    settings: Settings, address: str, required: bool, is_wrong: bool
) -> None:
    settings.API_ADDRESS = address
    settings.REQUIRE_API_KEY = required

    found = [each for each in run_checks() if each.id == "accounts.E001"]

    assert [type(each) for each in found] == [Error] * is_wrong
    assert all(f"API_ADDRESS={address}" in each.msg for each in found)


@pytest.mark.parametrize(
    ("given", "required"),
    [
        ({}, True),
        ({"API_ADDRESS": ""}, True),
        ({"API_ADDRESS": "0.0.0.0"}, True),
        ({"API_ADDRESS": "127.0.0.1"}, False),
        ({"API_ADDRESS": "::1", "REQUIRE_API_KEY": ""}, False),
        ({"API_ADDRESS": "127.0.0.1", "REQUIRE_API_KEY": "1"}, True),
        ({"REQUIRE_API_KEY": "0"}, False),
    ],
    ids=str,
)
def test_keys_are_needed_where_others_reach_the_api(
    given: dict[str, str], required: bool
) -> None:
    program = "from config import settings; print(settings.REQUIRE_API_KEY)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(**given),
        capture_output=True, text=True, check=True, timeout=60,
    )
    assert done.stdout.strip() == str(required)


def test_web_does_not_start_without_keys() -> None:
    (command,) = commands.in_container("web", {"PORT": "1"})
    done = subprocess.run(
        command, cwd=ROOT, env=environment(REQUIRE_API_KEY="0"),
        capture_output=True, text=True, check=False, timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "REQUIRE_API_KEY is off" in done.stderr
    assert "Traceback" not in done.stderr


def environment(**given: str) -> dict[str, str]:
    names = {"API_ADDRESS", "REQUIRE_API_KEY"}
    return {k: v for k, v in os.environ.items() if k not in names} | given
