"""The check of links sees what is broken, and nothing else."""

from pathlib import Path

import pytest

from tests import links

OTHER = """
# One `page`, two

## Same

## Same

<a name="by-hand"></a>

```
## Not a heading
```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository with a page to link to."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text(OTHER)
    (tmp_path / "docs" / "a picture.png").touch()
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "[a](docs/other.md)",
        "[a](docs)",
        "[a](/docs/other.md#same)",
        "[a](docs/other.md#one-page-two)",
        "[a](docs/other.md#same-1)",
        "[a](docs/other.md#by-hand)",
        "# Here\n\n[a](#here)",
        "![a](docs/a%20picture.png)",
        '<img src="docs/a picture.png">',
        "[a](https://example.com/gone#nowhere)",
        "[a](mailto:a@example.com)",
        "`[a](gone.md)`",
        "```\n[a](gone.md)\n```",
    ],
)
def test_a_good_link_is_passed_over(text: str, root: Path) -> None:
    (root / "README.md").write_text(text)

    assert list(links.broken(root)) == []


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("docs/gone.md", "there is no such file"),
        ("other.md", "there is no such file"),
        ("docs/other.md#gone", "there is no such anchor"),
        ("docs/other.md#Same", "there is no such anchor"),
        ("docs/other.md#same-2", "there is no such anchor"),
        ("docs/other.md#not-a-heading", "there is no such anchor"),
        ("#gone", "there is no such anchor"),
        ("docs/a%20picture.png#gone", "only pages have anchors"),
        ("docs#gone", "only pages have anchors"),
        ("../README.md", "leads out of the repository"),
    ],
)
@pytest.mark.parametrize(
    "form",
    ["[a]({})", "![a]({})", "[a][b]\n\n[b]: {}", '<a href="{}">a</a>',
     "| a |\n|---|\n| [a]({}) |"],
)
def test_a_broken_link_is_named(
    form: str, link: str, reason: str, root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (root / "README.md").write_text("# Title\n\n" + form.format(link))

    status = links.main([str(root)])

    assert status == 1
    said = capsys.readouterr().out
    assert said.startswith("README.md:")
    assert said.endswith(f": {link}: {reason}\n")
    assert len(said.splitlines()) == 1


def test_a_page_in_a_directory_links_from_there(root: Path) -> None:
    (root / "docs" / "page.md").write_text("a\n\n[a](other.md) [b](page.png)")

    assert list(links.broken(root)) == [
        "docs/page.md:3: page.png: there is no such file"
    ]
