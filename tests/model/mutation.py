"""How to take a guard away from a statement or a function."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class Mutation:
    """Text of a module's SQL or function, and what takes its place.

    Neither depends on line breaks or indents; of a function it is what
    `ast.unparse` makes of it.
    """

    module: ModuleType
    name: str
    changes: tuple[tuple[str, str], ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run without the guard."""
        *outer, name = self.name.split(".")
        owner: Any = self.module
        for each in outer:
            owner = getattr(owner, each)
        found = getattr(owner, name)
        if isinstance(found, str):
            found = self._changed(found)
        else:
            source = ast.parse(textwrap.dedent(inspect.getsource(found)))
            scope: dict[str, Any] = {}
            # Its globals stay the module's own, with what is patched there.
            text = self._changed(ast.unparse(source))
            exec(text, vars(self.module), scope)
            found = scope[name]
        with mock.patch.object(owner, name, found):
            yield

    def _changed(self, text: str) -> str:
        for old, new in self.changes:
            pattern = r"\s+".join(map(re.escape, old.split()))
            text, count = re.subn(pattern, new, text)
            assert count, f"{old!r} is not in {self.name}"
        return text
