"""Django's SECRET_KEY: from the environment, else by the database."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "from config import settings; print(settings.SECRET_KEY)"


def key_of_a_process(**given: str) -> str:
    env = {**os.environ, **given}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=env,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.strip()


def test_all_processes_of_a_database_make_the_same() -> None:
    first, second = (
        key_of_a_process(SECRET_KEY="", DATABASE_URL=f"postgresql:///{name}")
        for name in ("one", "two")
    )

    assert first != second
    assert first == key_of_a_process(
        SECRET_KEY="", DATABASE_URL="postgresql:///one"
    )
    # Django's own check: at least 50 characters, 5 of them different.
    for key in first, second:
        assert len(key) >= 50
        assert len(set(key)) >= 5


def test_one_that_is_given_is_taken() -> None:
    assert key_of_a_process(SECRET_KEY="given") == "given"
