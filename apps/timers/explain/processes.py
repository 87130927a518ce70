"""What is known of the processes that a timer waits for."""

from datetime import timedelta

from apps.monitoring.heartbeat import STALE_AFTER
from apps.timers.explain.words import moment
from apps.timers.storage.explaining import History, Role

_SILENCE = timedelta(seconds=STALE_AFTER)


def reports(history: History, *names: str) -> list[str]:
    """Say what is wrong with the processes of these roles, if that is known.

    Nothing is known of a time that is over: each process has one row, with
    the last that was heard of it.
    """
    found = history.roles or {}
    said = (_report(name, found.get(name), history) for name in names)
    return [each for each in said if each]


def _report(name: str, role: Role | None, history: History) -> str:
    if role is None:
        return f"No {name} is known to run."
    if history.details.now - role.seen_at > _SILENCE:
        return f"No {name} has been heard of since {moment(role.seen_at)}."
    return f"A {name} reports: {role.trouble}." if role.trouble else ""
