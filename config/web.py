"""The web server: Granian, which heeds one stop signal.

usage: python -m config.web OPTION… TARGET, as Granian takes them
"""

import runpy

from apps.core.processes import stop_once

if __name__ == "__main__":
    # Its processes begin with stop signals blocked: config/wsgi.py takes
    # those that come meanwhile.
    stop_once()
    runpy.run_module("granian", run_name="__main__", alter_sys=True)
