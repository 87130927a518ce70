"""A worker refuses to start when a call could outlive its claim."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from apps.timers.firing import call, claims, fire


@pytest.fixture(autouse=True)
def preparing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing else keep the worker from starting."""
    settings.WEBHOOK_SIGNING_KEYS = (b"n" * 32,)
    monkeypatch.setattr(call, "client", lambda: None)
    monkeypatch.setattr(claims, "mark_writer", lambda: None)
    monkeypatch.setattr(fire, "pool", lambda: None)


def test_a_call_as_long_as_half_the_lease_is_allowed(
    settings: Settings,
) -> None:
    settings.WEBHOOK_TIMEOUT = 10.0
    fire.prepare()


def test_a_longer_one_is_not(settings: Settings) -> None:
    settings.WEBHOOK_TIMEOUT = 11.0
    with pytest.raises(ImproperlyConfigured, match="WEBHOOK_TIMEOUT=11"):
        fire.prepare()
