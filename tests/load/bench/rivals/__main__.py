"""What is done to the chosen rival outside of its own processes.

usage: RIVAL=name python -m tests.load.bench.rivals prepare
       RIVAL=name python -m tests.load.bench.rivals seed COUNT SECONDS URL
"""

import os
import sys
from importlib import import_module

rival = import_module(f"tests.load.bench.rivals.{os.environ['RIVAL']}")
match sys.argv[1:]:
    case ["prepare"]:
        rival.prepare()
    case ["seed", count, seconds, url]:
        rival.seed(int(count), int(seconds), url)
    case _:
        sys.exit(__doc__)
