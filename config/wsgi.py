"""The WSGI application that Granian serves."""

import os

from django.core.wsgi import get_wsgi_application

from config.processes import end_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
end_with_parent()
