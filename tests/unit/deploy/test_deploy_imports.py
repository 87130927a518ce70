"""What each process imports: what is installed, and what it uses."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from deploy.commands import DISPATCHER

ROOT = Path(__file__).resolve().parents[3]
SERVICE = ("base", "standalone")
BENCH = (*SERVICE, "bench")
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

#: A dispatcher without RabbitMQ says so, and ends, once it has imported all.
DISPATCH = f"""
sys.argv = {DISPATCHER[1:]}
with contextlib.suppress(SystemExit):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
FOR_REQUESTS = {
    "config.urls", "apps.dashboard", "apps.inbox", "django.contrib.admin",
    "django.contrib.auth", "ninja", "pydantic", "whitenoise",
}
FOR_CALLS = {"requests", "urllib3"}


def installed(locks: tuple[str, ...]) -> set[str]:
    """Return the names of the packages that the locks name."""
    texts = [(ROOT / "requirements" / f"{each}.lock").read_text()
             for each in locks]
    return {
        found.lower().replace("_", "-")
        for text in texts
        for found in re.findall(r"^([\w.-]+)==", text, re.M)
    }


@pytest.mark.parametrize(
    ("start", "unused", "locks"),
    [
        pytest.param(
            "import deploy.local.__main__", {"django"}, SERVICE, id="make"
        ),
        pytest.param("import config.wsgi", FOR_CALLS, SERVICE, id="web"),
        pytest.param(
            "import config.worker", FOR_REQUESTS, SERVICE, id="worker"
        ),
        pytest.param(
            DISPATCH, FOR_REQUESTS | FOR_CALLS, SERVICE, id="dispatcher"
        ),
        pytest.param(
            "import tests.load.bench.__main__", {"pytest"}, BENCH, id="bench"
        ),
        pytest.param(
            "import tests.load.scaling.__main__", {"pytest"}, BENCH,
            id="scaling",
        ),
    ],
)
def test_a_process_imports_what_it_uses(
    start: str, unused: set[str], locks: tuple[str, ...]
) -> None:
    program = f"""
import contextlib, gc, runpy, sys
{start}
assert gc.isenabled()
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env={"DATABASE_URL": "postgresql:///", "WEBHOOK_SECRET": SECRET,
             "DJANGO_SETTINGS_MODULE": "config.settings",
             "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert modules & unused == set()
    known = packages_distributions()
    wanted = {
        each.lower().replace("_", "-")
        for name in {module.partition(".")[0] for module in modules}
        for each in known.get(name, ())
    }
    # Django imports Jinja2 where there is one: the tests' tools have it.
    others = {"pip", "setuptools", "jinja2", "markupsafe"}
    assert wanted - installed(locks) <= others
