"""The WSGI application that Granian serves."""

import os

from django import db
from django.conf import settings
from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application

from apps.broker.current import get_broker
from apps.core.processes import allow_files, end_with_parent, stop_once
from config.front import Front

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

stop_once()  # before any other thread
allow_files(8192)
application = Front(
    get_wsgi_application(), settings.DATA_UPLOAD_MAX_MEMORY_SIZE
)
end_with_parent()
# The API has a connection pool of its own and no cache. So there is nothing
# that Django would have to look after with each request.
request_started.disconnect(db.reset_queries)
request_started.disconnect(db.close_old_connections)
request_finished.disconnect(db.close_old_connections)
request_finished.disconnect(close_caches)
# This call begins to connect to RabbitMQ, so that the first timers need not
# wait for it.
get_broker().is_connected()
