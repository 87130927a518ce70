"""Settings of the processes that serve no requests.

The worker, the dispatcher and the recovery start without the applications that
only web and Django's own commands use: to import those takes longer than all
else.
"""

from config.settings import *  # noqa: F403

INSTALLED_APPS = ["apps.broker", "apps.timers"]
