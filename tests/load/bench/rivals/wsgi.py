"""What Granian serves."""

import os
from importlib import import_module

from django.core.wsgi import get_wsgi_application

os.environ.setdefault(
    "DJANGO_SETTINGS_MODULE", "tests.load.bench.rivals.settings"
)
application = get_wsgi_application()
# What is overdue must not wait for a first request.
import_module("tests.load.bench.rivals.urls")
