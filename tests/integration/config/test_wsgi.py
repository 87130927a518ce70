"""What Django does around each request in a web process."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import database_url

ROOT = Path(__file__).resolve().parents[3]

#: A web process with a view that uses the object-relational mapper.
PROGRAM = """
from config import wsgi
from django.core.signals import request_finished, request_started
from django.db import connection

def request(view):
    request_started.send(None, environ={})
    view()
    request_finished.send(None)
    return connection.connection is not None


print(request(lambda: None))
print(request(lambda: connection.cursor().execute("SELECT 1")))
print(request(lambda: connection.cursor().execute("SELECT 1")))
"""


@pytest.mark.usefixtures("db")
def test_django_closes_what_a_view_has_opened(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={"DATABASE_URL": database_url(), "DATA_DIR": str(tmp_path),
             "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["False", "False", "False"]
