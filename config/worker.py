"""The worker: what `python -m dramatiq config.worker` runs."""

import gc
import os

import django
import dramatiq

from apps.core.processes import keep_imports, stop_once

stop_once()  # before any other thread
gc.disable()  # until all is imported
os.environ["DJANGO_SETTINGS_MODULE"] = "config.background"
django.setup()

from apps.timers.firing import fire  # noqa: E402
from apps.timers.firing.worker import WorkerLifecycle  # noqa: E402

# A fault in the set-up shows now, and the first timers need not wait for it.
fire.prepare()
broker = dramatiq.get_broker()
broker.add_middleware(WorkerLifecycle())
keep_imports()
