"""An account that has limits, and what it asks for."""

from typing import Any
from uuid import UUID

from apps.accounts import limits, services
from apps.timers.models import Outcome
from apps.timers.storage import recording
from tests.support.accounts import AUTHOR, account, ask, key_of
from tests.support.api import GOOD
from tests.support.rows import claimed, report
from tests.support.timers import execute, value_of

FAR = {**GOOD, "hours": 100}


class Team:
    """An account with a key."""

    def __init__(self, name: str = "team") -> None:
        self.name = name
        self.id = account(name)
        self.key = key_of(self.id)

    def limit(self, **given: int | None) -> None:
        """Set limits, and have this process know of them."""
        services.change_limits(self.name, given, AUTHOR)
        limits.forget()

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> Any:
        """Send a request."""
        return ask(method, path, body, key=self.key, **headers)

    def set(self, body: object = FAR, **headers: str) -> Any:
        """Set a timer."""
        return self.ask("POST", "/timer", body, **headers)

    def living(self) -> int:
        """Count the timers that have not ended."""
        return int(value_of(
            "SELECT count(*) FROM timer"
            " WHERE account_id = %s AND outcome IS NULL", self.id,
        ))

    def stop_time(self) -> None:
        """Let the bucket get nothing more for a long while."""
        execute(
            "UPDATE account_limit SET filled_at = now() + interval '1 day'"
            " WHERE account_id = %s", self.id,
        )


def failed(team: Team) -> str:
    """Return a timer of the team's that failed."""
    made = team.set(GOOD | {"seconds": 0})
    claim = claimed(UUID(made.json()["id"]))
    assert recording.record([report(claim, Outcome.FAILED)]) == [True]
    return str(made.json()["id"])
