"""What operators do beside accounts is logged: users, and keys that rotate."""

import os
import pwd
from contextlib import suppress
from io import StringIO

import psycopg
import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError
from django.test import Client
from pytest_django import Settings

from apps.accounts import log
from apps.core.sealing import KeyRing
from apps.webhooks.request import WebhookRequest
from tests.support.accounts import OWNER
from tests.support.rows import new_timer, row

pytestmark = pytest.mark.usefixtures("db_pool")

ME = pwd.getpwuid(os.getuid()).pw_name
RING = KeyRing("a", {"a": bytes(32)})


@pytest.fixture(autouse=True)
def quick(settings: Settings) -> None:
    """Have passwords cost little."""
    hashers = "django.contrib.auth.hashers"
    settings.PASSWORD_HASHERS = [
        f"{hashers}.MD5PasswordHasher", f"{hashers}.PBKDF2PasswordHasher"
    ]


@pytest.fixture
def manage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as `manage.py something`."""
    monkeypatch.setattr("sys.argv", ["/srv/manage.py", "something", "--x"])


def said() -> list[str]:
    """Return what the log says, the oldest entry first."""
    found, _ = log.entries(OWNER, 1000)
    return [
        f"{each.operator} {each.address}: {each.action} {each.object}"
        for each in reversed(found)
    ]


@pytest.mark.usefixtures("manage")
def test_users_are_logged_however_they_are_changed() -> None:
    call_command(
        "createsuperuser", username="anna", email="", interactive=False
    )
    ben = User.objects.create_user("ben", password="a long word")
    ben.is_staff = True
    ben.save()
    ben.delete()
    by = f"{ME}: manage.py something None:"
    assert said() == [
        f"{by} create user anna", f"{by} create user ben",
        f"{by} change user ben", f"{by} delete user ben",
    ]


def test_a_log_in_is_no_change() -> None:
    # Given a user whose password was stored in another way
    password = make_password("word", hasher="pbkdf2_sha256")
    User.objects.create(username="anna", is_staff=True, password=password)
    old = said()

    # When she logs in, then both are stored, but not logged
    Client().post("/admin/login/", {"username": "anna", "password": "word"})
    user = User.objects.get()
    assert user.last_login
    assert user.password != password
    assert said() == old


def test_who_changes_their_password_is_named() -> None:
    User.objects.create_user("anna", password="a long word", is_staff=True)
    client = Client()
    client.login(username="anna", password="a long word")
    client.post("/admin/password_change/", {
        "old_password": "a long word", "new_password1": "another one",
        "new_password2": "another one",
    })
    assert authenticate(username="anna", password="another one")
    assert said()[1:] == ["anna: admin 127.0.0.1: change user anna"]


@pytest.fixture
def broken_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "WRITE", "SELECT 1 / 0")


@pytest.mark.usefixtures("broken_log")
def test_no_user_is_made_without_an_entry() -> None:
    with pytest.raises(DatabaseError):
        User.objects.create_user("anna")
    assert not User.objects.exists()


def rotate() -> None:
    call_command("rotate_encryption", stdout=StringIO())


def test_a_rotation_is_logged_once(settings: Settings) -> None:
    timers = [
        new_timer(60, request=WebhookRequest("POST", None, b"secret"))
        for _ in range(3)
    ]
    settings.ENCRYPTION_KEYS = RING
    rotate()
    assert {row(each)["encrypted_with"] for each in timers} == {"a"}
    settings.ENCRYPTION_KEYS = KeyRing(None, RING.keys)
    rotate()
    by = f"{ME}: manage.py rotate_encryption None:"
    assert said() == [
        f"{by} encrypt all with the key a", f"{by} decrypt all",
    ]


@pytest.mark.usefixtures("broken_log")
def test_nothing_is_encrypted_without_an_entry(settings: Settings) -> None:
    timer = new_timer(60, request=WebhookRequest("POST", None, b"secret"))
    settings.ENCRYPTION_KEYS = RING
    with suppress(psycopg.Error):
        rotate()
    assert row(timer)["encrypted_with"] is None
