"""The web server: Granian, which acts on a stop signal once.

usage: python -m config.web OPTION… TARGET, as Granian takes them
"""

import runpy

from apps.core.processes import stop_once

if __name__ == "__main__":
    # Its processes begin with stop signals blocked. config/wsgi.py handles
    # those that came before it.
    stop_once()
    runpy.run_module("granian", run_name="__main__", alter_sys=True)
