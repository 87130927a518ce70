"""What the API's document says, the running service does."""

import subprocess
import sys
from pathlib import Path

import pytest

from config.api import api
from tests.support.service import Service

# The test database is made only for tests that say that they need it.
pytestmark = pytest.mark.usefixtures("transactional_db")

CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_the_document_is_the_one_that_is_served(web: Service) -> None:
    assert web.request("GET", "/api/openapi.json") == (200, api.document)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            ("--phases", "examples,fuzzing", "--max-examples", "3"),
            id="each operation",
        ),
        pytest.param(
            ("--max-examples", "100", "--max-time", "120"),
            marks=pytest.mark.chaos,
            id="every bound of every field, and operations in turn",
        ),
    ],
)
def test_the_service_keeps_to_its_document(
    web: Service, tmp_path: Path, options: tuple[str, ...]
) -> None:
    # When schemathesis, which takes long to import, plays with operations
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli",
            "--config-file", str(CONFIG),
            "run", f"http://127.0.0.1:{web.port}/api/openapi.json",
            "--seed", "1", *options,
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
