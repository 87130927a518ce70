"""The version is the same wherever it stands."""

import re
import tomllib
from pathlib import Path

from config import settings

ROOT = Path(__file__).resolve().parents[3]


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d.*?)\]", changelog, re.MULTILINE)

    assert newest is not None
    assert newest[1] == project["version"] == settings.VERSION
