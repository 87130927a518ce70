"""What people read of a page's HTML."""

import re
from html import unescape


def text_of(html: str) -> str:
    """Return the text between tags, with single spaces."""
    without = re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub("<[^>]+>", " ", without)).split()).replace(
        " ,", ","
    )
