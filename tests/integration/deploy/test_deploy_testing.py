"""What `make test` runs, in which halves, and what it says in the end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from deploy.local import needs, packages, pytest_halves, testing
from deploy.local.halves import QUIET, TOGETHER
from deploy.local.output import Output
from deploy.local.processes import LocalError
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]

SETTINGS = """
[pytest]
markers =
    quiet:
    rabbitmq:
"""
SUITE = """
import os, pytest
from pathlib import Path
HERE = Path(__file__).parent

def note(name):
    with (HERE / "notes").open("a") as file:
        file.write(f"{name} {os.environ.get('PYTEST_XDIST_WORKER')}\\n")

@pytest.mark.quiet
@pytest.mark.parametrize("n", range(2))
def test_that_measures(n):
    note("quiet")

@pytest.mark.rabbitmq
@pytest.mark.parametrize("n", range(3))
def test_of_a_broker(n):
    note("together")
    pytest.skip("no RabbitMQ")

def test_that_fails():
    note("together")
    assert not (HERE / "fail").exists()

def test_that_is_skipped():
    note("together")
    pytest.skip("for another reason")
"""
SHARES = """
import os
from pathlib import Path

def test_of_a_page():
    with (Path(__file__).parents[2] / "notes").open("a") as file:
        file.write(f"shares {os.environ.get('PYTEST_XDIST_WORKER')}\\n")
"""
WAITS = """
import pytest, time
from pathlib import Path
HERE = Path(__file__).parent

@pytest.fixture
def something():
    yield
    (HERE / "left").touch()

def test_that_waits(something):
    (HERE / "begun").touch()
    time.sleep(60)
"""
# No server is started for these URLs, and none is asked.
GIVEN = {
    "DATABASE_URL": "postgresql://nowhere/",
    "RABBITMQ_URL": "amqp://nowhere/",
    "REQUIRE_RABBITMQ": "",
    # Other plugins take longer to load than such a suite to run.
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": "-p xdist -p no:debugging -p no:doctest"
    " -p no:faulthandler -p no:junitxml -p no:logging -p no:unittest",
}
WITHOUT_RABBITMQ = """
import os, sys
from deploy.local import needs, testing
needs.rabbitmq_server = lambda: None
needs.install_rabbitmq = lambda: "brew install rabbitmq"
os.geteuid = lambda: 1000
sys.exit(testing.run(sys.argv[1:], os.environ))
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(
    tmp_path: Path, processes: list["subprocess.Popen[str]"]
) -> Start:
    """Start `make test` on a suite of a test's own."""

    def start(
        text: str, *args: str, program: tuple[str, ...] = (), **env: str
    ) -> "subprocess.Popen[str]":
        suite = tmp_path / "test_suite.py"
        suite.write_text(text)
        (tmp_path / "pytest.ini").write_text(SETTINGS)
        clean = {
            key: value for key, value in os.environ.items()
            if not key.startswith("PYTEST_")
        }
        process = subprocess.Popen(
            [sys.executable, *(program or ("-m", "deploy.local", "test")),
             "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
             "-c", str(tmp_path / "pytest.ini"), str(suite), *args],
            cwd=ROOT, env={**clean, **GIVEN, **env}, text=True,
            stdout=subprocess.PIPE, start_new_session=True,
        )
        processes.append(process)
        return process

    return start


def ended(process: "subprocess.Popen[str]") -> tuple[int, list[str]]:
    """Return the exit status, and the lines that were printed."""
    output, _ = process.communicate(timeout=60)
    return process.returncode, output.splitlines()


def notes(directory: Path) -> list[list[str]]:
    """Return which kinds of tests have run, and in which worker."""
    text = (directory / "notes").read_text()
    return [line.split() for line in text.splitlines()]


def test_the_last_lines_count_both_halves_and_what_did_not_run(
    start: Start, tmp_path: Path
) -> None:
    # Given files of tests that share what their directory starts
    shared = tmp_path / "tests" / "browser"
    shared.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (shared / f"test_{name}.py").write_text(SHARES)

    # When all run; some may load the machine, so they run one by one
    program = ("-c", WITHOUT_RABBITMQ)
    running = start(
        SUITE, str(shared), "-m", "not chaos", "--import-mode=importlib",
        program=program, RABBITMQ_URL="",
    )
    status, lines = ended(running)
    noted = notes(tmp_path)
    assert status == 0
    assert lines[-2].startswith("3 broker tests did NOT run")
    assert "brew install rabbitmq" in lines[-2]
    assert "=== 6 passed, 4 skipped in " in lines[-1]
    assert len({worker for kind, worker in noted if kind == "shares"}) == 1
    ran = [note for note in noted if note[0] != "shares"]
    assert [kind for kind, _ in ran] == ["together"] * 5 + ["quiet"] * 2
    assert all(worker.startswith("gw") for _, worker in ran[:5])
    assert {worker for _, worker in ran[5:]} == {"None"}


@pytest.mark.parametrize(
    ("half", "markexpr", "workers"),
    [
        (QUIET, "not chaos and not load", 3),
        (QUIET, "not chaos", 0),
        (QUIET, "", 0),
        (TOGETHER, "", 6),
    ],
)
def test_how_many_run_side_by_side(
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    half: str,
    markexpr: str,
    workers: int,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(pytestconfig.option, "half", half, raising=False)
    monkeypatch.setattr(pytestconfig.option, "markexpr", markexpr)
    found = pytest_halves.pytest_xdist_auto_num_workers(pytestconfig)
    assert found == workers


@pytest.mark.parametrize(
    ("args", "status", "summary", "count"),
    [
        # A failure in one half does not keep the other from running,
        (["-n", "0", "-k", "fails or measures"], 1, "1 failed, 2 passed", 3),
        # unless that is wanted; 2 is how xdist says so.
        (["-n", "1", "-k", "fails or measures", "-x"], 2, "1 failed", 1),
        (["-k", "measures", "-n", "0"], 0, "2 passed", 2),
    ],
)
def test_arguments_hold_for_both_halves(
    start: Start,
    tmp_path: Path,
    args: list[str],
    status: int,
    summary: str,
    count: int,
) -> None:
    (tmp_path / "fail").touch()
    found, lines = ended(start(SUITE, *args))
    assert f"= {summary} in " in lines[-1]
    assert (found, len(notes(tmp_path))) == (status, count)


def test_no_test_at_all_is_told_as_pytest_does(start: Start) -> None:
    status, lines = ended(start(SUITE, "-n", "0", "-k", "nothing_is_named_so"))
    assert status == 5
    assert "= no tests ran in " in lines[-1]


@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGTERM, False), (signal.SIGINT, True)],
)
def test_a_stop_lets_tests_leave_what_they_started(
    start: Start, tmp_path: Path, number: signal.Signals, to_all: bool
) -> None:
    process = start(WAITS, "-n", "1")
    eventually((tmp_path / "begun").exists, within=30)
    if to_all:  # as a terminal does on Ctrl-C
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    status, _ = ended(process)
    assert status != 0
    assert (tmp_path / "left").exists()


@pytest.mark.parametrize(
    ("args", "measures"),
    [
        ([], True),
        (["-m", "not chaos and not load"], False),
        (["-m", "not chaos and not load", "-m", "load"], True),
        (["-m", "chaos", "tests/chaos"], True),
    ],
)
def test_what_measures_gets_a_postgres_that_writes_to_the_disk(
    args: list[str], measures: bool
) -> None:
    assert testing._measures(args) is measures


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user who can't install anything."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize(
    ("program", "name", "given"),
    [
        ("rabbitmq_server", "RabbitMQ", {}),
        ("pgbouncer", "PgBouncer", GIVEN),
        ("nginx", "nginx", GIVEN),
    ],
)
def test_what_is_missing_can_be_required(
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    name: str,
    given: dict[str, str],
) -> None:
    monkeypatch.setattr(needs, program, lambda: None)
    with pytest.raises(LocalError, match=f"REQUIRE_RABBITMQ=1.*\n.*{name}"):
        testing.run([], {**given, "REQUIRE_RABBITMQ": "1"})


def test_root_on_debian_installs_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """apt-get is a stand-in; so is what forbids services to start."""
    installed: list[str] = []

    def run(
        command: list[str], output: object, env: dict[str, str]
    ) -> None:
        if command[1] == "install":
            assert packages.POLICY.exists()
        installed.append(" ".join(command[-2:]))

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("shutil.which", lambda *args, **options: "/a/path")
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages, "_run", run)
    monkeypatch.setattr(needs, "nginx", lambda: None)
    said = BytesIO()
    missing = packages.provide(Output(said, as_json=False), GIVEN)
    assert [package.name for package in missing] == ["nginx"]
    assert installed == [
        "apt-get update",
        "--no-install-recommends nginx-light",
        "nginx disable",
    ]
    assert not packages.POLICY.exists()
    assert b"nginx is missing; installing it: apt-get" in said.getvalue()
