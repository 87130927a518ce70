"""The environment that `make` sets up, with a stand-in for Python."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYTHON = """#!/bin/sh
case "$*" in
*version_info\\[:2\\]*) echo 3.12 ;;
*base_prefix*) echo "(3, 12, 0) /usr" ;;
"-m venv .venv")
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    echo "#!$(pwd -P)/.venv/bin/python" > .venv/bin/pip
    echo venv >> calls ;;
"-m pip "*)
    echo pip >> calls
    [ ! -e no-network ] ;;
esac
"""


class Clone:
    """A clone of the repository, as far as venv.sh looks at it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def set_up(self, kind: str) -> list[str]:
        """Run venv.sh; return what it did."""
        calls = self.path / "calls"
        calls.unlink(missing_ok=True)
        tools = self.path / "tools"
        subprocess.run(
            ["/bin/sh", "deploy/local/venv.sh", kind],
            cwd=self.path,
            env={"PATH": f"{tools}:/usr/bin:/bin", "PYTHON": "python-here"},
            capture_output=True, check=False, timeout=20,
        )
        return calls.read_text().split() if calls.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    path = tmp_path / "a clone"
    (path / "deploy/local").mkdir(parents=True)
    for script in ("check.sh", "venv.sh"):
        shutil.copy(ROOT / "deploy/local" / script, path / "deploy/local")
    (path / "requirements").mkdir()
    for name in ("base", "standalone", "dev", "bench"):
        (path / "requirements" / f"{name}.lock").write_text(f"{name}==1\n")
    (path / "tools").mkdir()
    python = path / "tools" / "python-here"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return Clone(path)


def test_a_second_start_finds_everything_there(clone: Clone) -> None:
    assert clone.set_up("standalone") == ["venv", "pip"]
    assert clone.set_up("standalone") == []
    assert clone.set_up("dev") == ["pip"]
    assert clone.set_up("dev") == []
    assert clone.set_up("bench") == ["pip"]
    for kind in ("standalone", "dev", "bench"):
        assert clone.set_up(kind) == []


@pytest.mark.parametrize(
    ("lock", "again"),
    [("base", ["standalone", "dev"]), ("standalone", ["standalone", "dev"]),
     ("dev", ["dev"]), ("bench", [])],
)
def test_a_changed_lock_is_followed(
    clone: Clone, lock: str, again: list[str]
) -> None:
    clone.set_up("dev")
    (clone.path / "requirements" / f"{lock}.lock").write_text("other==2\n")
    for kind in ("standalone", "dev"):
        assert clone.set_up(kind) == (["pip"] if kind in again else [])


def test_an_interrupted_installation_is_begun_anew(clone: Clone) -> None:
    (clone.path / "no-network").touch()
    assert clone.set_up("standalone") == ["venv", "pip"]
    (clone.path / "no-network").unlink()
    assert clone.set_up("standalone") == ["venv", "pip"]
    assert clone.set_up("standalone") == []


def test_a_moved_clone_gets_a_new_environment(clone: Clone) -> None:
    clone.set_up("dev")
    moved = Clone(clone.path.with_name("moved"))
    clone.path.rename(moved.path)
    assert moved.set_up("dev") == ["venv", "pip"]


def test_a_python_that_was_removed_is_replaced(clone: Clone) -> None:
    clone.set_up("dev")
    (clone.path / ".venv/bin/python").unlink()
    assert clone.set_up("dev") == ["venv", "pip"]
