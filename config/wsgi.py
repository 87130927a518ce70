"""The WSGI application that Granian serves."""

import os

from django.core.wsgi import get_wsgi_application

from apps.broker.current import get_broker
from config.processes import end_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
end_with_parent()
# The first timers are not to wait for the connection to RabbitMQ, which
# this call begins.
get_broker().is_connected()
