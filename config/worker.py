"""The worker: what `python -m dramatiq config.worker` runs."""

import os

import django
import dramatiq

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from apps.timers import actors  # noqa: E402, F401  (registers the actors)
from apps.timers.lifecycle import WorkerLifecycle  # noqa: E402

broker = dramatiq.get_broker()
broker.add_middleware(WorkerLifecycle())
