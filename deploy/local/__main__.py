"""usage: python -m deploy.local run|stack|test|manage [ARGUMENTS].

The arguments are pytest's, or those of `manage.py`.
"""

import os
import sys

from deploy.local import manage, stack, testing
from deploy.local.processes import LocalError


def main(args: list[str]) -> int:
    """Run one shape to its end; return the exit status."""
    try:
        if args[:1] == ["test"]:
            return testing.run(args[1:], os.environ)
        if args[:1] == ["manage"]:
            manage.run(args[1:], os.environ)
        if args in (["run"], ["stack"]):
            return stack.run(args[0], os.environ)
    except LocalError as error:
        print(f"timer-service: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
