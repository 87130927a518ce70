"""Django's settings; every one that may vary comes from the environment.

docs/configuration.md describes each variable.
"""

from hashlib import sha512
from ipaddress import ip_address
from pathlib import Path

from config import env
from config.logs import not_503, unasked

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

DEBUG = env.flag("DEBUG")
# It signs log-ins of the admin pages, so all web processes need the same one.
# Somebody who knows it can do nothing without write access to the database.
SECRET_KEY = env.text("SECRET_KEY") or sha512(
    f"{env.text('DATABASE_URL')} is ours".encode()
).hexdigest()
ALLOWED_HOSTS = list(
    env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
)
# Where clients reach the API. `deploy.commands web` listens on all addresses.
API_ADDRESS = env.address("API_ADDRESS", "::")
# Whether each request needs a key. If only this machine reaches the API, none
# is needed, unless this says otherwise.
REQUIRE_API_KEY = env.flag(
    "REQUIRE_API_KEY", default=not ip_address(API_ADDRESS).is_loopback
)
# The number of proxies between clients and web. Each proxy adds its caller's
# address to X-Forwarded-For.
PROXIES = env.whole("PROXIES", 0, least=0, most=9)

INSTALLED_APPS = [
    "apps.dashboard",  # before the admin, one of whose templates it replaces
    # The admin pages; only their views use these (apps/dashboard/admin).
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "ninja",
    "apps.broker",
    "apps.accounts",
    "apps.timers",
    "apps.monitoring",
    "apps.inbox",
]
MIDDLEWARE = [
    "config.middleware.RequestGuard",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "apps.accounts.access.ApiKeys",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# The admin's middleware is around its own views, and not in MIDDLEWARE.
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
# For how long a log-in holds, in seconds.
SESSION_COOKIE_AGE = 12 * 3600
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator")
]
STATIC_URL = "/static/"
# Files are served as they lie in the applications: nothing is collected.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
WHITENOISE_ALLOW_ALL_ORIGINS = False
# For pages; other answers have a stricter policy (config/middleware.py).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
    }
}
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
# A request whose Content-Length is over this is answered 413, and its body is
# not read. JSON's escapes may make the 64 KiB of a webhook's body six times
# as long.
DATA_UPLOAD_MAX_MEMORY_SIZE = 512 * 1024
# The admin names up to 1,000 rows when it asks whether an action is meant.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1_010
DATA_DIR = Path(env.text("DATA_DIR", str(BASE_DIR / ".data"))).absolute()

# --- Postgres: the truth -------------------------------------------------
DATABASES = {"default": env.database("DATABASE_URL")}
DATABASES["default"]["OPTIONS"] = {
    # A dead or unreachable server is noticed in seconds, not in the
    # minutes that TCP takes by itself.
    "connect_timeout": "2",
    "tcp_user_timeout": "3000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    **DATABASES["default"]["OPTIONS"],  # type: ignore[dict-item]
}
# A pooler in transaction mode may give each statement another connection.
DATABASE_POOLER = env.flag("DATABASE_POOLER")
if DATABASE_POOLER:
    DATABASES["default"]["OPTIONS"] = {
        **DATABASES["default"]["OPTIONS"],  # type: ignore[dict-item]
        "prepare_threshold": None,
    }
# Encrypt what timers send, what receivers answer, and signing secrets.
ENCRYPTION_KEYS = env.key_ring("ENCRYPTION_KEYS")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- RabbitMQ: near timers; empty means standalone -----------------------
RABBITMQ_URL = env.text("RABBITMQ_URL")
RABBITMQ_QUEUE_TYPE = env.choice("RABBITMQ_QUEUE_TYPE", "classic", "quorum")

# --- Timers --------------------------------------------------------------
MAX_TIMER_DAYS = env.whole("MAX_TIMER_DAYS", 365, least=1, most=36_500)
# How long timers are kept once they have ended; 0: for ever. The second one is
# for those that are failed or unknown.
RETENTION_DAYS = env.whole("RETENTION_DAYS", 30, least=0, most=36_500)
RETENTION_FAILED_DAYS = env.whole(
    "RETENTION_FAILED_DAYS", 90, least=0, most=36_500
)

# --- Worker --------------------------------------------------------------
WORKER_THREADS = env.whole("WORKER_THREADS", 64, least=1, most=1024)

# --- Webhooks ------------------------------------------------------------
WEBHOOK_ALLOWED_NETWORKS = env.networks("WEBHOOK_ALLOWED_NETWORKS")
# Every call is signed with each of these secrets. Only workers need any.
WEBHOOK_SIGNING_KEYS = env.signing_keys("WEBHOOK_SECRET")
# Every call is also signed with each of these. Receivers may have their public
# keys instead of a secret.
WEBHOOK_PRIVATE_KEYS = env.private_keys("WEBHOOK_PRIVATE_KEY")
WEBHOOK_PROXY = env.text("WEBHOOK_PROXY") or None
# Seconds for a whole call, name look-up included. Tests shorten it.
WEBHOOK_TIMEOUT = float(env.whole("WEBHOOK_TIMEOUT", 10, least=1, most=60))
# For how many seconds after the first failure a receiver that can't be
# connected to is tried again. It got nothing.
WEBHOOK_CONNECT_RETRY_SECONDS = env.whole(
    "WEBHOOK_CONNECT_RETRY_SECONDS", 900, least=0, most=86_400
)
WEBHOOK_USER_AGENT = f"timer-service/{VERSION}"

# --- Metrics of workers and dispatchers; port 0: none --------------------
METRICS_PORT = env.whole("METRICS_PORT", 0, least=0, most=65_535)
METRICS_ADDRESS = env.address("METRICS_ADDRESS", "127.0.0.1")

# --- Inbox ---------------------------------------------------------------
# The address under which workers reach web, whose inbox is on then.
INBOX = env.text("INBOX").rstrip("/")
# Where a web process also listens, to reset connections; port 0: nowhere.
INBOX_RESET_PORT = env.whole("INBOX_RESET_PORT", 0, least=0, most=65_535)
INBOX_RESET_ADDRESS = env.address("INBOX_RESET_ADDRESS", "127.0.0.1")

# --- Logs ----------------------------------------------------------------
LOG_FORMAT = env.choice("LOG_FORMAT", "text", "json")
LOG_LEVEL = env.choice("LOG_LEVEL", "info", "debug", "warning").upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": f"config.logs.{LOG_FORMAT.title()}Line"}},
    "filters": {
        "seldom": {"()": "config.logs.Seldom"},
        "not 503": {
            "()": "django.utils.log.CallbackFilter",
            "callback": not_503,
        },
        "unasked": {
            "()": "django.utils.log.CallbackFilter",
            "callback": unasked,
        },
    },
    "handlers": {
        "stderr": {
            "class": "config.logs.Lines",
            "formatter": "line",
        }
    },
    # Other libraries log URLs at DEBUG.
    "root": {
        "handlers": ["stderr"],
        "level": "INFO" if LOG_LEVEL == "DEBUG" else LOG_LEVEL,
    },
    "loggers": {
        "apps": {"level": LOG_LEVEL},
        "config": {"level": LOG_LEVEL},
        # Dramatiq logs each message at DEBUG and its threads at INFO. pika
        # logs ten lines about one lost connection.
        "dramatiq": {"level": "WARNING"},
        "dramatiq.MainProcess": {"level": "INFO"},
        "pika": {"level": "CRITICAL"},
        "django.request": {
            "level": "ERROR", "filters": ["not 503", "unasked"],
        },
        # It logs each attempt to connect. One such line is useful: the
        # service itself knows only that no connection came.
        "psycopg.pool": {"filters": ["seldom"]},
        # It logs refused paths and hosts, which are their senders' mistakes.
        "django.security": {"level": "CRITICAL"},
    },
}
