"""`make bench`: the service beside others, in one run on this machine.

It starts servers of its own, and needs the machine for itself.
"""

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path

from deploy.local.processes import LocalError
from tests.load.bench import run, table
from tests.load.bench.sides import NAMES


def main() -> None:
    """Measure, print the table, and keep the figures where asked to."""
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
    for size in dataclasses.fields(run.Sizes):
        parser.add_argument(
            f"--{size.name.replace('_', '-')}",
            type=_read_like(size.default),
            nargs="+" if isinstance(size.default, tuple) else None,
        )
    options = vars(parser.parse_args())
    sizes = run.QUICK if options["quick"] else run.Sizes()
    given = {
        size.name: options[size.name]
        for size in dataclasses.fields(run.Sizes)
        if options[size.name] is not None
    }
    sizes = dataclasses.replace(sizes, **given)
    # Its processes are ended on the way out, also by a plain kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        results, titles = run.run(sizes, options["only"])
    except LocalError as error:
        sys.exit(f"timer-service: {error}")
    print(table.markdown(results, titles, sizes))
    if options["save"]:
        figures = {
            name: dataclasses.asdict(found) for name, found in results.items()
        }
        options["save"].write_text(json.dumps(figures, indent=1))


def _read_like(default: object) -> type:
    if isinstance(default, tuple):
        return int
    return type(default)


if __name__ == "__main__":
    main()
