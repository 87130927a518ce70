"""Which processes run locally, and with which settings."""

import socket
import stat
from pathlib import Path

import pytest

from apps.webhooks.signing import parse_secret
from deploy.local import services
from deploy.local.data import free_ports, kept_port, secret
from deploy.local.processes import LocalError
from deploy.local.services import LOOPBACK, Options


def read(shape: str, directory: Path, **environ: str) -> Options:
    return Options.read(shape, {"DATA_DIR": str(directory), **environ})


@pytest.mark.parametrize(
    ("shape", "names", "processes"),
    [
        ("run", ["worker", "web"], 1),
        ("stack", ["worker", "dispatcher", "web"], 2),
    ],
)
def test_each_shape_has_its_processes(
    tmp_path: Path, shape: str, names: list[str], processes: int
) -> None:
    options = read(shape, tmp_path)
    found = services.application(options, {})
    assert [service.name for service in found] == [*names, "recover"]
    assert [service.once for service in found] == [False] * len(names) + [
        True
    ]
    assert options.worker_processes == options.web_workers == processes
    assert options.worker_threads == 64
    assert options.port == 8000


@pytest.mark.parametrize(
    ("given", "next_one"), [("9100", "9101"), ("0", "0"), ("x", "x")]
)
def test_a_dispatcher_has_the_port_after_the_workers(
    tmp_path: Path, given: str, next_one: str
) -> None:
    found = services.application(
        read("stack", tmp_path), {"METRICS_PORT": given}
    )
    ports = {each.name: each.env["METRICS_PORT"] for each in found}
    assert (ports["worker"], ports["dispatcher"]) == (given, next_one)


@pytest.mark.parametrize("value", ["0", "65536", "-1", "x", "8000.0", "٣"])
def test_a_wrong_port_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(LocalError, match="PORT must be a number"):
        read("run", tmp_path, PORT=value)


@pytest.mark.parametrize(
    ("given", "networks"),
    [
        ({}, LOOPBACK),
        ({"WEBHOOK_ALLOWED_NETWORKS": ""}, ""),
        ({"WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8"}, "10.0.0.0/8"),
    ],
)
def test_loopback_may_be_called_unless_said_otherwise(
    tmp_path: Path, given: dict[str, str], networks: str
) -> None:
    options = read("run", tmp_path)
    env = services.environment(options, given, "postgresql://x", "")
    assert env["WEBHOOK_ALLOWED_NETWORKS"] == networks


def test_standalone_knows_no_rabbitmq(tmp_path: Path) -> None:
    given = {"RABBITMQ_URL": "amqp://elsewhere"}
    env = services.environment(read("run", tmp_path), given, "x", "")
    assert env["RABBITMQ_URL"] == ""


def test_only_this_machine_reaches_the_api(tmp_path: Path) -> None:
    given = {"API_ADDRESS": "192.0.2.1", "REQUIRE_API_KEY": "1"}
    env = services.environment(read("run", tmp_path), given, "x", "")
    assert env["API_ADDRESS"] == services.HOST
    assert env["REQUIRE_API_KEY"] == "1"


def test_a_relative_data_directory_becomes_absolute(tmp_path: Path) -> None:
    assert services.data_dir({"DATA_DIR": "some/where"}).is_absolute()
    assert services.data_dir({}) == services.ROOT / ".data"


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    first = secret(path)
    assert len(first) >= 32
    assert secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_webhooks_are_signed_with_a_secret_that_stays(tmp_path: Path) -> None:
    options = read("run", tmp_path)
    env = services.environment(options, {}, "x", "")
    again = services.environment(options, {}, "x", "")
    file = tmp_path / "webhook-secret"
    assert env["WEBHOOK_SECRET"] == again["WEBHOOK_SECRET"]
    assert env["WEBHOOK_SECRET"] == file.read_text().strip()
    assert len(parse_secret(env["WEBHOOK_SECRET"])) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = services.welcome(options, None)
    assert f"secret in {file}" in shown
    assert env["WEBHOOK_SECRET"] not in shown


def test_a_secret_that_is_given_is_not_stored(tmp_path: Path) -> None:
    given = {"WEBHOOK_SECRET": "whsec_given"}
    options = read("run", tmp_path, **given)
    env = services.environment(options, given, "x", "")
    assert env["WEBHOOK_SECRET"] == "whsec_given"
    assert not (tmp_path / "webhook-secret").exists()
    assert "the secret in WEBHOOK_SECRET" in services.welcome(options, None)


def test_ports_are_outside_the_range_of_outgoing_ones() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(20_000 <= port < 30_000 for port in ports)


def test_a_port_stays_the_same_while_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "port"
    port = kept_port(path)
    assert kept_port(path) == port
    with socket.create_server(("127.0.0.1", port)):
        assert kept_port(path) not in (port, 0)
    path.write_text("x")
    assert 20_000 <= kept_port(path) < 30_000


@pytest.mark.parametrize("given", ["8001", "0", ""])
def test_inboxes_have_a_port_for_resets(tmp_path: Path, given: str) -> None:
    options = read("run", tmp_path)
    env = services.environment(options, {}, "x", "")
    assert 20_000 <= int(env["INBOX_RESET_PORT"]) < 30_000
    again = services.environment(options, {}, "x", "")
    assert again["INBOX_RESET_PORT"] == env["INBOX_RESET_PORT"]
    env = services.environment(options, {"INBOX_RESET_PORT": given}, "x", "")
    assert env["INBOX_RESET_PORT"] == given


def test_what_is_shown_can_be_copied(tmp_path: Path) -> None:
    shown = services.welcome(read("run", tmp_path, PORT="8123"), None)
    assert "curl http://127.0.0.1:8123/timer" in shown
    assert "http://127.0.0.1:8123/api/docs" in shown
