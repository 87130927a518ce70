""".env.example, its page, the compose file and the settings agree.

Each variable stands there as `#NAME=default`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import commands

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = dict(
    re.findall(
        r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE
    )
)
PAGE = dict(
    re.findall(
        r"^\| `([A-Z_]+)` \| ([^|]+) \|",
        (ROOT / "docs" / "configuration.md").read_text(),
        re.MULTILINE,
    )
)
#: The few that the README names: each row may have several.
IN_README = re.findall(
    r"^\| ((?:`[A-Z_]+`(?:, )?)+) \|",
    (ROOT / "README.md").read_text().partition("## Ten settings")[2],
    re.MULTILINE,
)
#: The compose file sets these itself, or has no use for them.
NOT_COMPOSE = {
    "API_ADDRESS", "DATA_DIR", "DATABASE_URL", "INBOX_RESET_ADDRESS",
    "INBOX_RESET_PORT", "METRICS_ADDRESS", "METRICS_PORT", "RABBITMQ_URL",
}  # fmt: skip
#: What the compose file has a default for that is not the service's own.
OF_COMPOSE = {
    "ALLOWED_HOSTS", "API_ADDRESS", "CALLS_SUBNET", "INBOX", "PROXIES",
    "REQUIRE_API_KEY", "WEBHOOK_ALLOWED_NETWORKS", "WEBHOOK_SECRET",
}

PROGRAM = """
import json
from config import settings
print(json.dumps({
    name: repr(getattr(settings, name)) for name in dir(settings)
    if name.isupper() and name not in {"LOGGING", "SECRET_KEY"}
}))
"""


def settings_with(**given: str) -> dict[str, str]:
    """Return the settings of a process that has no others of ours."""
    env = {k: v for k, v in os.environ.items() if k not in EXAMPLE}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env={**env, **given},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    return found


def compose_environment() -> dict[str, str | None]:
    services = yaml.safe_load(COMPOSE)["services"]
    environment: dict[str, str | None] = services["worker"]["environment"]
    return environment


def test_the_page_describes_the_same_variables() -> None:
    assert PAGE.keys() == EXAMPLE.keys()


def test_readme_names_ten_of_them() -> None:
    assert len(IN_README) == 10
    assert set(re.findall("[A-Z_]+", " ".join(IN_README))) <= PAGE.keys()


@pytest.mark.parametrize("name", sorted(EXAMPLE.keys() - OF_COMPOSE))
def test_the_page_names_the_same_default(name: str) -> None:
    words = re.findall(r"[^\s`,;()]+", PAGE[name].replace("`,`", " "))

    if EXAMPLE[name]:
        assert set(EXAMPLE[name].split(",")) <= set(words)
    else:
        assert {"none", "made", "private"} & set(words)


def test_settings_have_the_same_defaults() -> None:
    given = {
        name: value for name, value in EXAMPLE.items()
        if value and name not in OF_COMPOSE
    }  # fmt: skip
    given["DATA_DIR"] = str(ROOT / given["DATA_DIR"])

    assert settings_with(**given) == settings_with()


@pytest.mark.parametrize("role", ["web", "worker"])
def test_commands_have_the_same_defaults(role: str) -> None:
    assert commands.in_container(role, EXAMPLE) == commands.in_container(
        role, {}
    )


def test_compose_passes_every_variable_on() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    passed = {k for k, v in compose_environment().items() if v is None}

    assert used | passed == EXAMPLE.keys() - NOT_COMPOSE


def test_compose_has_the_same_defaults() -> None:
    text = re.sub(r"\\\n\s*", "", COMPOSE)
    subnet, allowed = EXAMPLE["CALLS_SUBNET"], "WEBHOOK_ALLOWED_NETWORKS"
    text = text.replace(f"${{CALLS_SUBNET:-{subnet}}}", subnet)
    found = dict(re.findall(r"\$\{([A-Z_]+):?-([^}]*)\}", text))

    assert found.pop("SSL_CERT_FILE") == "/dev/null"
    assert "CALLS_SUBNET" not in found
    assert found == {name: EXAMPLE[name] for name in found}
    assert found[allowed].split(",")[0] == subnet


def test_code_reads_no_other_variable() -> None:
    read = re.findall(
        r'\benv\.\w+\(\s*"([A-Z_]+)"|\benviron, "([A-Z_]+)"',
        (ROOT / "config/settings.py").read_text()
        + (ROOT / "deploy/commands.py").read_text()
        + (ROOT / "deploy/local/services.py").read_text(),
    )

    assert {name for pair in read for name in pair if name} <= EXAMPLE.keys()
