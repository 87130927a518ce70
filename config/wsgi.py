"""The WSGI application that Granian serves."""

import gc
import os
from importlib import import_module

from django import db
from django.conf import settings
from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db.backends.signals import connection_created

from apps.broker.interface import get_broker
from apps.core.processes import (
    allow_files,
    end_with_parent,
    keep_imports,
    stop_once,
)
from apps.inbox import resets
from apps.monitoring.metrics import process as metrics
from config.front import Front

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# A WSGI server may give each request the process's environment variables, too
# (PEP 3333). Granian does. Then HTTP_PROXY is a header `Proxy` to Django.
for _name in [*os.environ]:
    if _name.startswith(("HTTP_", "CONTENT_")):
        del os.environ[_name]

stop_once()  # before any other thread
allow_files(8192)
gc.disable()  # until all is imported
application = Front(
    get_wsgi_application(), settings.DATA_UPLOAD_MAX_MEMORY_SIZE
)
# The first request does not wait for the imports of all views.
import_module(settings.ROOT_URLCONF)
keep_imports()
end_with_parent()
if metrics.start_web():
    resets.start()


def _look_after_connections(**_: object) -> None:
    request_started.connect(db.close_old_connections)
    request_finished.connect(db.close_old_connections)


# The API's statements run on a pool of their own, and nothing is cached. So
# Django has nothing to look after with each request, until a view uses its
# object-relational mapper.
request_started.disconnect(db.reset_queries)
request_started.disconnect(db.close_old_connections)
request_finished.disconnect(db.close_old_connections)
request_finished.disconnect(close_caches)
connection_created.connect(_look_after_connections)
# The first timers are not to wait for the connection to RabbitMQ, which
# this call begins.
get_broker().is_connected()
