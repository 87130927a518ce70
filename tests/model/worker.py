"""A worker process, and what it writes."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from apps.timers.storage.claim_records import Mark
from apps.timers.storage.records import ClockReading
from tests.model.task import Task


@dataclass
class Write:
    """A write on its way to Postgres."""

    kind: str
    item: Any
    worker: "Worker"
    asked_at: float
    done: bool = False
    answer: Any = None


@dataclass(eq=False)
class Worker:
    """A worker process with one thread and one writer of marks."""

    #: How far its machine's clock is from the model's.
    skew: float
    task: Task | None = None
    timer: UUID | None = None
    token: UUID | None = None
    #: As its claim's answer said.
    clock: ClockReading | None = None
    #: Whether it holds a slot of its destination.
    calling: bool = False
    #: Whether a message is to be given back if it dies.
    holds_message: bool = False
    marks: dict[UUID, Mark] = field(default_factory=dict)
    flying: list[Mark] = field(default_factory=list)

    def add(self, mark: Mark) -> None:
        """Stand in for the writer of marks."""
        self.marks[mark.token] = mark

    def add_later(self, mark: Mark) -> None:
        """Stand in for the writer of marks: any mark may still be written."""
        self.marks[mark.token] = mark

    def discard(self, *tokens: UUID) -> None:
        """Stand in for the writer of marks: what is being written is."""
        for token in tokens:
            self.marks.pop(token, None)

    @property
    def request(self) -> Any:
        """What its thread has stopped for."""
        return self.task.request if self.task else None
