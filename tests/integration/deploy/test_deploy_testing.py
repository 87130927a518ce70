"""What `make test` says when there is no RabbitMQ."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import testing
from deploy.local.needs import TO_INSTALL_RABBITMQ
from deploy.local.processes import LocalError

ROOT = Path(__file__).resolve().parents[3]

SUITE = """
import pytest
@pytest.mark.rabbitmq
@pytest.mark.parametrize("n", range(3))
def test_broker(n):
    pytest.skip("no RabbitMQ")
def test_other():
    pass
def test_skipped():
    pytest.skip("for another reason")
"""


def test_the_last_line_but_one_counts_what_did_not_run(
    tmp_path: Path,
) -> None:
    suite = tmp_path / "test_suite.py"
    suite.write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = rabbitmq\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p",
         "deploy.local.pytest_summary", "--rootdir", str(tmp_path),
         "-c", str(tmp_path / "pytest.ini"), str(suite)],
        cwd=ROOT,
        env={**os.environ, TO_INSTALL_RABBITMQ: "brew install rabbitmq"},
        capture_output=True, text=True, check=False, timeout=60,
    )
    before, last = done.stdout.splitlines()[-2:]
    assert before.startswith("3 broker tests did NOT run")
    assert "brew install rabbitmq" in before
    assert "1 passed, 4 skipped" in last


def test_rabbitmq_can_be_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "rabbitmq_server", lambda: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LocalError, match="REQUIRE_RABBITMQ"):
        testing.run([], {"REQUIRE_RABBITMQ": "1"})
