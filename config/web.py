"""The web server: Granian, which acts on a stop signal once.

usage: python -m config.web OPTION… TARGET, as Granian takes them
"""

import os
import runpy
import sys

from apps.accounts.checks import exposure
from apps.core.processes import stop_once

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if (reason := exposure()) is not None:
        sys.exit(reason)
    # Its processes begin with stop signals blocked. config/wsgi.py handles
    # those that came before it.
    stop_once()
    runpy.run_module("granian", run_name="__main__", alter_sys=True)
