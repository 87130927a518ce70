"""The end of a game: all is well from now on, and every timer ends."""

from apps.timers.storage import queueing, taking_over
from tests.model.life import must
from tests.model.postgres import Row, seconds
from tests.model.world import World

_HORIZON = queueing.HORIZON.total_seconds()


def drain(world: World) -> None:
    """Have all be well from now on: every timer ends in time."""
    world.web.finish()
    world.observe()
    for write in world.late:
        world.execute([write])
        world.observe()
    world.late.clear()
    world.rabbitmq.busy = False
    world.receivers.deferral = None
    world.hold(lasts=False)
    deadline = _latest(world) + 40
    while True:
        _drain_workers(world)
        world.dispatch()
        _drain_messages(world)
        world.observe()
        if not _unended(world):
            return
        must(world.now <= deadline, "a timer did not end in time")
        world.advance(max(5.0, _next(world) - world.now))


def _latest(world: World) -> float:
    """Return when the last of due times and leases will have passed."""
    times = [world.now + taking_over.SETTLE.total_seconds()]
    for row in _unended(world):
        times += [
            seconds(row[name])
            for name in ("next_at", "leased_until")
            if row[name]
        ]
    return max(times)


def _next(world: World) -> float:
    """Return when something is to be done next, if nothing is now."""
    times = [message[1] for message in world.rabbitmq.messages]
    for row in _unended(world):
        if row["leased_until"]:
            times.append(seconds(row["leased_until"]))
        else:
            is_far = row["queued_at"] is None
            times.append(seconds(row["next_at"]) - _HORIZON * is_far)
    return min(times)


def _unended(world: World) -> list[Row]:
    rows = world.postgres.rows().values()
    return [row for row in rows if row["outcome"] is None]


def _drain_workers(world: World) -> None:
    for worker in world.workers:
        while worker.request is not None:
            world.step(worker)
        worker.flying += worker.marks.values()
        worker.marks.clear()
        if worker.flying:
            world.write_marks(worker, well=True)


def _drain_messages(world: World) -> None:
    for timer_id in world.rabbitmq.take_ready():
        world.deliver(world.workers[0], timer_id, False)
        _drain_workers(world)
