"""What the shell scripts behind `make` find, and say when they don't."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.needs import install_rabbitmq, missing

ROOT = Path(__file__).resolve().parents[3]


def fake_python(directory: Path, name: str, version: str, venv: bool) -> None:
    """Put a stand-in that answers what check.sh asks on the PATH."""
    script = directory / name
    script.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        f"*version_info*) echo {version} ;;\n"
        f"*ensurepip*) exit {0 if venv else 1} ;;\n"
        "esac\n"
    )
    script.chmod(0o755)


def check(
    directory: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    for tool in ("uname", "id", "sh"):
        target = directory / tool
        if not target.exists():
            target.symlink_to(f"/usr/bin/{tool}" if tool != "sh"
                              else "/bin/sh")
    return subprocess.run(
        ["/bin/sh", str(ROOT / "deploy/local/check.sh")],
        env={"PATH": str(directory), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ([("python3", "3.11", True)], "python3"),
        ([("python3", "3.9", True), ("python3.12", "3.12", True)],
         "python3.12"),
        ([("python3", "3.13", True), ("python3.11", "3.11", True)],
         "python3.11"),
        ([("python3.14", "3.14", False), ("python3.12", "3.12", True)],
         "python3.12"),
    ],
)
def test_a_python_that_can_run_us_is_found(
    tmp_path: Path, pythons: list[tuple[str, str, bool]], chosen: str
) -> None:
    for name, version, venv in pythons:
        fake_python(tmp_path, name, version, venv)
    done = check(tmp_path)
    assert done.stdout.strip() == chosen, done.stderr


@pytest.mark.parametrize(
    ("pythons", "said"),
    [
        ([], "3.11 to 3.14 is needed (none found)"),
        ([("python3", "3.9", True)], "python3 is 3.9"),
        ([("python3", "3.15", True)], "python3 is 3.15"),
        ([("python3", "3.12", False)], "not its venv module"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, pythons: list[tuple[str, str, bool]], said: str
) -> None:
    for name, version, venv in pythons:
        fake_python(tmp_path, name, version, venv)
    done = check(tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert said in done.stderr


def test_on_debian_the_command_installs_that_version(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", "3.12", False)
    (tmp_path / "apt-get").symlink_to("/bin/sh")
    assert "apt-get install python3.12-venv" in check(tmp_path).stderr


def test_a_python_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3.14", "3.14", True)
    fake_python(tmp_path, "mine", "3.11", True)
    assert check(tmp_path, PYTHON="mine").stdout.strip() == "mine"
    refused = check(tmp_path, PYTHON="absent")
    assert "PYTHON=absent" in refused.stderr
    assert refused.returncode != 0


def test_make_alone_lists_its_targets() -> None:
    done = subprocess.run(
        ["make", "-C", str(ROOT)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=True, timeout=20,
    )
    for target in ("run", "stack", "test", "lint", "lock"):
        assert f"make {target} " in done.stdout


def test_the_first_check_needs_no_packages() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
         "import deploy.local.needs"],
        check=False, timeout=20,
    )
    assert done.returncode == 0


def test_only_the_stack_needs_rabbitmq(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deploy.local.needs.rabbitmq_server", lambda: None)
    assert missing("run", {}) is None
    assert missing("stack", {"RABBITMQ_URL": "amqp://there"}) is None
    lack = missing("stack", {})
    assert lack is not None
    assert install_rabbitmq() in lack
