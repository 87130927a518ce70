"""What the compose file promises about all of its services."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.webhooks.signing import parse_secret

FILE = Path(__file__).resolve().parents[3] / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())[
    "services"
]
ONE_SHOT = {"migrate", "tests"}


@pytest.mark.parametrize("name", SERVICES)
def test_none_may_do_or_take_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["mem_limit"]
    assert service["pids_limit"]
    assert "privileged" not in service
    assert "cap_add" not in service
    if name != "tests":  # they write where they like
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_what_runs_long_is_looked_at_and_restarted(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    # `sleep 28` and `timeout 5`, see x-paced.
    assert int(service["healthcheck"]["timeout"].removesuffix("s")) > 28 + 5


def test_what_is_published_is_private() -> None:
    published = {
        name: service["ports"]
        for name, service in SERVICES.items()
        if "ports" in service
    }

    # Nothing that may be scaled.
    assert published.keys() == {"grafana", "prometheus", "proxy", "rabbitmq"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)
    # This is why no API key is needed.
    assert SERVICES["web"]["environment"]["API_ADDRESS"] == "127.0.0.1"


def neighbours(name: str) -> set[str]:
    """Return the services that have a network in common with one."""
    own = set(SERVICES[name]["networks"])
    return {
        other
        for other, service in SERVICES.items()
        if own & set(service["networks"])
    } - {name}


def test_who_can_reach_whom() -> None:
    assert neighbours("proxy") == {"web"}
    # Timers may call web's inboxes as well.
    assert neighbours("receiver") == {"worker", "web"}
    for server in ("postgres", "rabbitmq"):
        assert SERVICES[server]["networks"] == ["data"]
    monitoring = {"prometheus", "grafana", "disk"}
    for name in monitoring:
        assert neighbours(name) == (
            monitoring | {"web", "worker", "dispatcher"}
        ) - {name}


def test_webhooks_are_signed_out_of_the_box() -> None:
    secret = SERVICES["worker"]["environment"]["WEBHOOK_SECRET"]

    found = re.fullmatch(r"\$\{WEBHOOK_SECRET:-(.+)\}", secret)

    assert found
    assert parse_secret(found[1])


def test_durability_of_postgres_is_left_on() -> None:
    command = " ".join(SERVICES["postgres"]["command"])

    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert setting not in command
