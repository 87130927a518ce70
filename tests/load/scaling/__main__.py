"""`python -m tests.load.scaling`: how the service grows, and to what.

It measures on servers of its own, and needs the machine for itself, for
about four minutes; then it sizes and simulates from what it has measured.
"""

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any

from deploy.local.processes import LocalError
from tests.load.scaling import measure
from tests.load.scaling.measure import Growth, Phase
from tests.load.scaling.tables import fill, tables


def main() -> None:
    """Measure, or read what was measured; print or fill in the tables."""
    options = _options()
    growth = _read(options.figures) if options.figures else _measured(options)
    if options.save:
        options.save.write_text(json.dumps(dataclasses.asdict(growth)))
    if options.page:
        page = options.page.read_text()
        options.page.write_text(fill(page, growth))
        return
    for name, table in tables(growth).items():
        print(f"<!-- {name} -->\n{table}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true",
        help="small sizes: a look, not figures to quote",
    )
    parser.add_argument("--save", type=Path, help="a file for all figures")
    parser.add_argument(
        "--figures", type=Path, help="saved ones, instead of measuring"
    )
    parser.add_argument(
        "--page", type=Path,
        help="docs/scaling.md: fill in its tables, and print nothing",
    )
    return parser.parse_args()


def _measured(options: argparse.Namespace) -> Growth:
    # Its processes are ended on the way out, also by a plain kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return measure.measure(
            measure.QUICK if options.quick else measure.Sizes()
        )
    except LocalError as error:
        sys.exit(f"timer-service: {error}")


def _read(path: Path) -> Growth:
    saved: dict[str, Any] = json.loads(path.read_text())
    return Growth(
        {
            kind: {int(n): Phase(**phase) for n, phase in phases.items()}
            for kind, phases in saved["phases"].items()
        },
        {int(n): (c[0], c[1]) for n, c in saved["connections"].items()},
        saved["commit_ms"],
        saved["cores"],
    )


if __name__ == "__main__":
    main()
