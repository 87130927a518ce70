"""`make bench`: the service beside others, in one run on this machine.

It starts servers of its own, and needs the machine for itself.
"""

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any

from deploy.local.processes import LocalError
from tests.load.bench import run, table
from tests.load.bench.sides import NAMES


def main() -> None:
    """Measure, print the table, and keep the figures where asked to."""
    options = _options()
    sizes = _sizes(options)
    # Its processes are ended on the way out, also by a plain kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        done = run.run(sizes, options["only"])
    except LocalError as error:
        sys.exit(f"timer-service: {error}")
    print(table.markdown(done))
    if options["save"]:
        figures = json.dumps(dataclasses.asdict(done), indent=1)
        options["save"].write_text(figures)
    if options["plots"]:
        from tests.load.bench import plots

        plots.draw(done, options["plots"])


def _options() -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true",
        help="small sizes: a look within minutes, not figures to quote",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], choices=NAMES, metavar="SIDE",
        help=f"of {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--save", type=Path, help="a file for all figures, as JSON"
    )
    parser.add_argument("--plots", type=Path, help="a directory for pictures")
    for size in dataclasses.fields(run.Sizes):
        many = isinstance(size.default, tuple)
        parser.add_argument(
            f"--{size.name.replace('_', '-')}",
            type=int if many else type(size.default),
            nargs="*" if many else None,
            help=f"else {size.default}",
        )
    return vars(parser.parse_args())


def _sizes(options: dict[str, Any]) -> run.Sizes:
    given: dict[str, Any] = {
        size.name: value if not isinstance(value, list) else tuple(value)
        for size in dataclasses.fields(run.Sizes)
        if (value := options[size.name]) is not None
    }
    usual = run.QUICK if options["quick"] else run.Sizes()
    return dataclasses.replace(usual, **given)


if __name__ == "__main__":
    main()
