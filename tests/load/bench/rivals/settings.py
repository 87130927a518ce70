"""Django's settings for everything that the service is compared with."""

from config import env

SECRET_KEY = "not-secret"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.load.bench.rivals.urls"
INSTALLED_APPS = ["tests.load.bench.rivals.apps.Rivals"]
# It gives answers their Content-Length.
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {"default": env.database("DATABASE_URL")}
# The ORM with a pool is the faster way to use it.
DATABASES["default"]["OPTIONS"] = {
    **DATABASES["default"]["OPTIONS"],  # type: ignore[dict-item]
    "pool": {"min_size": 4, "max_size": 32, "timeout": 30},
}

RABBITMQ_URL = env.text("RABBITMQ_URL")
