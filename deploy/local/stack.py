"""`make run` and `make stack`: everything, from the servers up."""

import contextlib
import http.client
from collections.abc import Mapping

from deploy.local import manage, services
from deploy.local.data import can_bind, end_leftovers, locked
from deploy.local.needs import missing
from deploy.local.output import Output, to_terminal
from deploy.local.postgres import Postgres
from deploy.local.processes import MARK, LocalError
from deploy.local.rabbitmq import USER, RabbitMQ
from deploy.local.services import HOST, Options
from deploy.local.supervisor import Stopping, Supervisor


def run(shape: str, environ: Mapping[str, str]) -> int:
    """Run the service until it is told to stop; return the exit status."""
    options = Options.read(shape, environ)
    if lack := missing(shape, environ):
        raise LocalError(lack)
    if not can_bind(options.port):
        raise LocalError(
            f"PORT {options.port} of {HOST} is in use: stop what listens "
            "there, or set another PORT"
        )
    output = to_terminal(as_json=environ.get("LOG_FORMAT") == "json")
    with locked(options.data_dir) as lock:
        end_leftovers(options.data_dir)
        with (
            contextlib.suppress(Stopping),
            manage.forgetting(options.data_dir),
            Supervisor(output, kept=[lock]) as supervisor,
        ):
            _start(supervisor, output, options, environ)
            supervisor.watch()
    return 0


def _start(
    supervisor: Supervisor,
    output: Output,
    options: Options,
    environ: Mapping[str, str],
) -> None:
    marked = {**environ, MARK: str(options.data_dir)}
    database_url = environ.get("DATABASE_URL") or ""
    postgres = rabbitmq = None
    if not database_url:
        output.say("starting PostgreSQL")
        postgres = Postgres(options.data_dir, marked)
        database_url = postgres.url
        supervisor.start(postgres.service())
    rabbitmq_url = ""
    if options.shape == "stack":
        rabbitmq_url = environ.get("RABBITMQ_URL") or ""
        if not rabbitmq_url:
            output.say("starting RabbitMQ")
            rabbitmq = RabbitMQ(options.data_dir, marked, for_people=True)
            rabbitmq_url = rabbitmq.url
            for service in rabbitmq.services():
                supervisor.start(service)
    env = services.environment(options, environ, database_url, rabbitmq_url)
    if postgres:
        supervisor.wait_for(postgres.is_ready, 120, "PostgreSQL")
    supervisor.run(services.migration(env))
    if rabbitmq:
        supervisor.wait_for(
            rabbitmq.is_ready, 120,
            f"RabbitMQ (all it holds is in Postgres too; to let it begin "
            f"anew, remove {options.data_dir / 'rabbitmq'})",
        )
    manage.note(options, env)
    for service in services.application(options, env):
        supervisor.start(service)
    supervisor.wait_for(lambda: _answers(options.port), 120, "the service")
    output.show(services.welcome(options, _management(rabbitmq)))


def _management(rabbitmq: RabbitMQ | None) -> str | None:
    if rabbitmq is None:
        return None
    return (
        f"  RabbitMQ's management: http://{HOST}:{rabbitmq.management_port}, "
        f"user {USER},\n    password in {rabbitmq.password_file}"
    )


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
