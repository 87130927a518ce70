"""A check that the documentation's links lead somewhere.

usage: python -m tests.links [DIRECTORY]

Looks at the Markdown pages of a repository: local paths have to exist, and
anchors to stand in the page they name, with GitHub's names for headings. It
asks nothing of the network. Prints one line for each broken link, and exits
with 1 if there is any.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
#: Where a repository has pages, as patterns below its directory.
PAGES = ("*.md", "docs/**/*.md", ".github/**/*.md")

_PARSER = MarkdownIt("commonmark").enable("table")


class Page:
    """A page's links, with the lines where they begin, and its anchors."""

    def __init__(self, text: str) -> None:
        self.links: list[tuple[int, str]] = []
        self.anchors: set[str] = set()
        self._headings: Counter[str] = Counter()
        tokens = _PARSER.parse(text)
        for before, token in zip([None, *tokens], tokens, strict=False):
            line = token.map[0] + 1 if token.map else 0
            if before is not None and before.type == "heading_open":
                self._add_heading(token)
            for part in [token, *(token.children or ())]:
                self._add(line, part)

    def _add_heading(self, token: Token) -> None:
        """Add a heading's anchor; those of one name are numbered."""
        text = "".join(
            part.content for part in token.children or ()
            if part.type in {"text", "code_inline"}
        )
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        again = self._headings[name]
        self._headings[name] += 1
        self.anchors.add(f"{name}-{again}" if again else name)

    def _add(self, line: int, token: Token) -> None:
        if token.type == "link_open":
            self.links.append((line, str(token.attrs["href"])))
        elif token.type == "image":
            self.links.append((line, str(token.attrs["src"])))
        elif token.type in {"html_block", "html_inline"}:
            html = _HTML()
            html.feed(token.content)
            self.links += [(line, link) for link in html.links]
            self.anchors |= html.anchors


class _HTML(HTMLParser):
    """What HTML within a page links to, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        for name, value in attrs:
            if name in {"href", "src", "srcset"}:
                self.links.append(value or "")
            elif name in {"id", "name"}:
                self.anchors.add(value or "")


@cache
def read(path: Path) -> Page:
    """Return a page; each is read once."""
    return Page(path.read_text(encoding="utf-8"))


def broken(root: Path) -> Iterator[str]:
    """Yield a line for each link below `root` that leads nowhere."""
    pages = sorted({page for like in PAGES for page in root.glob(like)})
    for page in pages:
        for line, link in read(page).links:
            if reason := _wrong(root, page, link):
                yield f"{page.relative_to(root)}:{line}: {link}: {reason}"


def _wrong(root: Path, page: Path, link: str) -> str | None:
    """Return what is wrong with a page's link, None if nothing is."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    path = unquote(parts.path)
    base = root if path.startswith("/") else page.parent
    target = (base / path.lstrip("/")).resolve() if path else page
    if not target.is_relative_to(root.resolve()):
        return "leads out of the repository"
    if not target.exists():
        return "there is no such file"
    if not parts.fragment:
        return None
    if target.suffix != ".md":
        return "only pages have anchors"
    if unquote(parts.fragment) not in read(target).anchors:
        return "there is no such anchor"
    return None


def main(args: list[str]) -> int:
    """Check a repository, this one if none is given."""
    found = list(broken(Path(args[0]) if args else ROOT))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
