"""The index of the decisions has each of them."""

import re
from pathlib import Path

PAGES = Path(__file__).resolve().parents[3] / "docs" / "decisions"


def test_the_index_has_each_decision_once_and_in_order() -> None:
    index = (PAGES / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| \[.+?\]\((\d{4}.*?\.md)\)", index, re.M)

    assert [name for _, name in rows] == sorted(
        page.name for page in PAGES.glob("0*.md")
    )
    assert all(int(number) == int(name[:4]) for number, name in rows)
