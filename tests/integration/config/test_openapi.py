"""What the API's document says, the running service does."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case

from config.api import api
from tests.support.service import Service

# The test database is made only for tests that say that they need it.
pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = Path(__file__).with_name("schemathesis.toml")
schema = schemathesis.openapi.from_dict(
    api.document, config=schemathesis.Config.from_path(CONFIG)
)
# It tries every bound of every field, and costs more than all others
# together. The long run has it.
schema.config.phases.coverage.enabled = False


def test_the_document_is_the_one_that_is_served(web: Service) -> None:
    assert web.request("GET", "/api/openapi.json") == (200, api.document)


@schema.parametrize()
@settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_the_service_keeps_to_its_document(
    case: "Case[Any]", web: Service
) -> None:
    case.call_and_validate(base_url=f"http://127.0.0.1:{web.port}")


@pytest.mark.chaos
def test_the_service_keeps_to_its_document_for_longer(
    web: Service, tmp_path: Path
) -> None:
    # When schemathesis plays with all operations, one by one and in turn
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli",
            "--config-file", str(CONFIG),
            "run", f"http://127.0.0.1:{web.port}/api/openapi.json",
            "--max-time", "120", "--max-examples", "100", "--seed", "1",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=220,
        check=False,
    )
    print(done.stdout)

    # Then it finds nothing
    assert done.returncode == 0
    assert " passed" in done.stdout
