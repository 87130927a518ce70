"""The supervisor's own files: nobody else's directory, and no links."""

import os
import socket
import stat
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from deploy.local.data import locked
from deploy.local.needs import rabbitmq_server
from deploy.local.output import Output
from deploy.local.postgres import Postgres
from deploy.local.processes import Child, LocalError, Service, tail
from deploy.local.rabbitmq import RabbitMQ

NOBODY = 65534
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give a directory away"
)
with_rabbitmq = pytest.mark.skipif(
    rabbitmq_server() is None, reason="no rabbitmq-server is installed"
)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Make a file that is to be neither read nor written."""
    path = tmp_path / "secret"
    path.write_text("secret\n")
    return path


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Make a directory that another account owns."""
    path = tmp_path / "others"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    return path


def run_with_log(log: Path) -> None:
    command = [sys.executable, "-c", "print('said')"]
    child = Child(
        Service("test", command, {}, log=log), Output(BytesIO(), as_json=False)
    )
    child.process.wait(30)
    child.finish()


def lock(directory: Path) -> None:
    with locked(directory):
        pass


def test_a_log_is_appended_to_and_private(tmp_path: Path) -> None:
    log = tmp_path / "log"

    run_with_log(log)
    run_with_log(log)

    assert log.read_text() == "said\nsaid\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert tail(log, lines=1) == f"\n{log}:\n  said"
    assert tail(tmp_path / "none") == ""


def test_a_log_that_is_a_link_is_not_followed(
    tmp_path: Path, secret: Path
) -> None:
    log = tmp_path / "log"
    log.symlink_to(secret)

    with pytest.raises(LocalError, match="log is a link: remove it"):
        run_with_log(log)

    assert secret.read_text() == "secret\n"
    assert tail(log) == ""


@as_root
def test_no_log_in_a_directory_of_another_account(others: Path) -> None:
    with pytest.raises(LocalError, match="belongs to another account"):
        run_with_log(others / "log")

    assert list(others.iterdir()) == []


@as_root
def test_another_accounts_data_directory_is_refused(others: Path) -> None:
    with pytest.raises(LocalError, match=f"{others} belongs to another"):
        lock(others)

    assert list(others.iterdir()) == []


def test_a_lock_that_is_a_link_is_not_followed(
    tmp_path: Path, secret: Path
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "lock").symlink_to(secret)

    with pytest.raises(LocalError, match="DATA_DIR can't be used"):
        lock(directory)

    assert secret.read_text() == "secret\n"


def test_the_log_of_postgres_is_in_a_directory_of_ours(
    tmp_path: Path,
) -> None:
    postgres = Postgres(tmp_path, os.environ)
    try:
        log = postgres.service().log
    finally:
        postgres.remove()

    assert log is not None
    assert log.parent.stat().st_uid == os.geteuid()


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[[], Path]:
    """Do what precedes RabbitMQ's start; return where the cookie is."""

    def run() -> Path:
        _, broker = RabbitMQ(tmp_path, os.environ).services()
        epmd = ("127.0.0.1", int(broker.env["ERL_EPMD_PORT"]))
        with socket.create_server(epmd):
            broker.prepare()
        return Path(broker.env["HOME"]) / ".erlang.cookie"

    return run


@with_rabbitmq
def test_erlangs_cookie_is_random_and_private(
    prepare: Callable[[], Path],
) -> None:
    cookie = prepare()

    assert len(bytes.fromhex(cookie.read_text())) == 32
    assert stat.S_IMODE(cookie.stat().st_mode) == 0o400


@with_rabbitmq
def test_a_cookie_that_is_there_stays(
    prepare: Callable[[], Path], tmp_path: Path
) -> None:
    (tmp_path / "rabbitmq").mkdir()
    old = tmp_path / "rabbitmq" / ".erlang.cookie"
    old.write_text("OLDCOOKIEOFERLANGSOWN")
    old.chmod(0o400)

    assert prepare() == old
    assert old.read_text() == "OLDCOOKIEOFERLANGSOWN"
    assert stat.S_IMODE(old.stat().st_mode) == 0o400
