"""What `make run` installs is all that the service imports."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOCKS = [ROOT / "requirements" / f"{name}.lock"
         for name in ("base", "standalone")]

PROGRAM = """
import importlib, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
importlib.import_module(sys.argv[1])
print(*{name.partition(".")[0] for name in sys.modules})
"""


def installed() -> set[str]:
    """Return the names of the packages that the locks name."""
    return {
        found.lower().replace("_", "-")
        for lock in LOCKS
        for found in re.findall(r"^([\w.-]+)==", lock.read_text(), re.M)
    }


@pytest.mark.parametrize(
    "module", ["deploy.local.__main__", "config.wsgi", "config.worker"]
)
def test_nothing_else_is_imported(module: str) -> None:
    secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, module],
        cwd=ROOT,
        env={"DATABASE_URL": "postgresql:///", "WEBHOOK_SECRET": secret,
             "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known = packages_distributions()
    wanted = {
        each.lower().replace("_", "-")
        for name in done.stdout.split()
        for each in known.get(name, ())
    }
    # Django imports Jinja2 where there is one: the tests' tools have it.
    others = {"pip", "setuptools", "jinja2", "markupsafe"}
    assert wanted - installed() <= others
