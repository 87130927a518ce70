"""`make manage`: a management command, for the service that runs here."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from deploy.local import services
from deploy.local.data import write_private
from deploy.local.processes import MARK, LocalError
from deploy.local.services import ROOT, Options

#: What a command needs to know of the service that runs.
_KEPT = ("DATABASE_URL", "RABBITMQ_URL")


def note(options: Options, env: Mapping[str, str]) -> None:
    """Note in the data directory where the servers are."""
    kept = {name: env[name] for name in _KEPT}
    write_private(
        _path(options.data_dir), json.dumps({"shape": options.shape, **kept})
    )


@contextlib.contextmanager
def forgetting(data_dir: Path) -> Iterator[None]:
    """Remove the note in the end: the servers have stopped."""
    try:
        yield
    finally:
        _path(data_dir).unlink(missing_ok=True)


def run(args: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become `manage.py` with these arguments.

    LocalError if no service runs on the data directory.
    """
    directory = services.data_dir(environ)
    try:
        kept = json.loads(_path(directory).read_text())
    except FileNotFoundError:
        raise LocalError(
            f"no service runs on the data in {directory}. Start `make run` or"
            " `make stack`, or set the DATA_DIR of the one that runs"
        ) from None
    options = Options.read(kept["shape"], environ)
    env = services.environment(
        options, environ, *(kept[name] for name in _KEPT)
    )
    # A later start would take it for a process of the service.
    del env[MARK]
    os.chdir(ROOT)
    os.execve(
        sys.executable, [sys.executable, "manage.py", *args], env
    )


def _path(data_dir: Path) -> Path:
    return data_dir / "servers.json"
