"""What every service of the compose file must have."""

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
LONG_RUNNING = sorted(SERVICES.keys() - ONE_SHOT)
OURS = sorted(
    name
    for name, service in SERVICES.items()
    if service["image"] == "timer-service"
)


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_long_is_looked_at_and_restarted(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"] == "30s"
    assert service["healthcheck"]["test"][0] == "CMD"  # not by a shell


@pytest.mark.parametrize("name", SERVICES)
def test_commands_are_lists_and_ports_private(name: str) -> None:
    service = SERVICES[name]

    assert isinstance(service.get("command", []), list)
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_little(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["init"]


def test_what_may_be_scaled_publishes_no_port() -> None:
    published = {name for name in SERVICES if "ports" in SERVICES[name]}

    assert published == {"proxy", "rabbitmq"}


def test_webhooks_are_signed_out_of_the_box() -> None:
    secret = SERVICES["worker"]["environment"]["WEBHOOK_SECRET"]

    found = re.fullmatch(r"\$\{WEBHOOK_SECRET:-(.+)\}", secret)

    assert found
    assert parse_secret(found[1])


def test_durability_of_postgres_is_left_on() -> None:
    command = " ".join(SERVICES["postgres"]["command"])

    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert setting not in command
