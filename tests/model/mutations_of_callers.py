"""Guards of what callers do with timers and keys; see `mutations`."""

from apps.timers import changes
from apps.timers.storage import (
    by_key,
    changing,
    limiting,
    naming,
    replaying,
)
from apps.timers.storage.reading import IS_WAITING
from tests.model.mutation import Mutation


def _naming(name: str, *replaced: tuple[str, str]) -> Mutation:
    return Mutation(naming, name, replaced)


def _by_key(name: str, *replaced: tuple[str, str]) -> Mutation:
    return Mutation(by_key, name, replaced)


def _changing(name: str, *replaced: tuple[str, str]) -> Mutation:
    return Mutation(changing, name, replaced)


def _replaying(name: str, *replaced: tuple[str, str]) -> Mutation:
    return Mutation(replaying, name, replaced)


def _limiting(name: str, *replaced: tuple[str, str]) -> Mutation:
    return Mutation(limiting, name, replaced)


_VERSION = " AND version = coalesce(%(version)s, version)"
_IF_VERSION = " AND version = coalesce(if_version, version)"

#: Without any one of these the model finds a promise broken.
MUTATIONS_OF_CALLERS = {
    # Keys, and who stores a timer under one.
    "a key is locked": _naming(
        "LOCK_KEYS", ("DO UPDATE SET key = excluded.key", "DO NOTHING"),
    ),
    "who stores a timer locks its key": _naming(
        "create", ("lock_keys(connection, timers)", "pass"),
    ),
    "a key's timer is looked for": _naming(
        "CREATE", ("CASE WHEN NOT takes_key", "CASE WHEN false"),
    ),
    "a key is free once its timer has ended": _naming(
        "CREATE", ("AND holder.outcome IS NULL)", ")"),
    ),
    "a PUT takes a key from a timer that is being called": _naming(
        "CREATE", ("CASE WHEN NOT takes_key", "CASE WHEN true"),
    ),
    "what is refused is not stored": _naming(
        "CREATE",
        ("WHERE holder IS NULL AND (request_key", "WHERE (request_key"),
    ),
    "a key's row says who has it": _naming(
        "CREATE", ("SET timer_id = given.id,", "SET"),
    ),
    "a key's row says how far its timer may be moved": _naming(
        "CREATE",
        ("latest_at = given.latest_at FROM stored",
         "latest_at = NULL FROM stored"),
    ),
    "of two in a group for one key, one comes first": _naming(
        "_names", ("timer.key is not None", "False"),
    ),
    # Requests that are repeated.
    "what is refused is not remembered": _naming(
        "CREATE",
        ("request_key IS NOT NULL AND holder IS NULL",
         "request_key IS NOT NULL"),
    ),
    "a repeated request stores nothing": _naming(
        "CREATE",
        ("AND (request_key IS NULL OR id IN (SELECT timer_id FROM asked))",
         ""),
    ),
    "a request is remembered": _naming(
        "CREATE",
        ("< excluded.created_at - interval '24 hours'", "IS NOT NULL"),
    ),
    "a request is forgotten after a day": _naming(
        "CREATE", ("< excluded.created_at - interval '24 hours'", "IS NULL"),
    ),
    "a request is forgotten though a key is taken": _naming(
        "_answer",
        ("and (not ((holder or not row) and earlier['is_old']))", ""),
    ),
    "another body is another request": _naming(
        "_answer", ("earlier['fingerprint'] == asked.fingerprint", "True"),
    ),
    "a repeated request gets the first answer": _naming(
        "_answer", ("earlier['time_left']", "asked.time_left"),
    ),
    "of two in a group that are the same, one comes first": _naming(
        "_names", ("timer.request_key is not None", "False"),
    ),
    # PUT by key.
    "who puts a timer has its key locked until all is done": _by_key(
        "put", ("with connection.transaction():", "if True:"),
    ),
    "of two puts in a group, one comes first": _by_key(
        "put",
        ("naming.rounds(puts, lambda put: [put.new.name])", "[puts]"),
    ),
    "of two puts in a group, the other sees what the one stored": _by_key(
        "_put",
        ("keys[each.name] = {'timer_id': each.timer.id,"
         " 'latest_at': each.latest_at}", "pass"),
    ),
    "a timer that is being called is not kept": _by_key(
        "SHOW", (IS_WAITING, "outcome IS NULL"),
    ),
    "a timer that has ended is not kept": _by_key(
        "SHOW", (IS_WAITING, "fired_at IS NULL"),
    ),
    "a timer that was called is not kept": _by_key(
        "SHOW", ("sent_at IS NULL OR", "true OR"),
    ),
    "an extended timer is not moved beyond its bound": _by_key(
        "_change", ("latest_at=key['latest_at']", "latest_at=None"),
    ),
    "a change looks at the bound": _changing(
        "CHANGE", ("timer.due_at), latest)", "timer.due_at))"),
    ),
    "a replaced timer's bound is replaced": _by_key(
        "_put",
        ("_keep_latest(connection,"
         " [p for p in puts if p.new.timer.id in rows], keys)", "pass"),
    ),
    "an extended timer's bound stays": _by_key(
        "_keep_latest", ("put.if_exists == 'replace'", "True"),
    ),
    "a key names a timer that has not ended": _by_key(
        "HOLDER", ("AND outcome IS NULL", ""),
    ),
    # The limit of timers that have not ended.
    "a timer takes room": _limiting(
        "Budgets.take", ("room=-1", "room=0"),
    ),
    "a replayed timer takes room": _limiting(
        "Budgets.take_room", ("room=-number", "room=0"),
    ),
    "without room, nothing is stored": _limiting(
        "Budgets.take", ("budget.room == 0 or", ""),
    ),
    "without room, nothing is replayed": _limiting(
        "Budgets.take_room", ("number > budget.room", "False"),
    ),
    "what is not stored takes no room": _limiting(
        "Budgets.give_back", ("room=1", "room=0"),
    ),
    "who sets timers locks the limit": _limiting("LOCK", ("FOR UPDATE", "")),
    "without room, timers are counted": _limiting(
        "_Budget.make_room", ("self.room >= wanted", "True"),
    ),
    "timers are counted again after a pause": _limiting(
        "_Budget.make_room",
        ("row['now'] >= row['counted_at'] + most * PAUSE", "True"),
    ),
    "timers that wait are counted": _limiting(
        "COUNT", ("'scheduled', ", ""),
    ),
    "timers that are being called are counted": _limiting(
        "COUNT", ("leased_until IS NOT NULL", "false"),
    ),
    # Changes and cancels.
    "a change looks at the version": _changing("CHANGE", (_IF_VERSION, "")),
    "what is merged is of the version that was read": Mutation(
        changes,
        "change_timer",
        (("version, has_ended, old = found", "_, has_ended, old = found"),),
    ),
    "a change locks the timer": _changing(
        "CHANGE", ("ORDER BY timer.id FOR UPDATE OF timer", ""),
    ),
    "a cancel looks at the version": _changing(
        "CANCEL", (_VERSION, " AND coalesce(%(version)s, 0) >= 0"),
    ),
    "a cancel looks for the end": _changing(
        "CANCEL", (IS_WAITING, "fired_at IS NULL"),
    ),
    "a cancel locks the timer": _changing(
        "CANCEL", ("ORDER BY id FOR UPDATE", ""),
    ),
    # Replays.
    "a replay looks at the outcome": _replaying(
        "REPLAY",
        ("outcome IN ('failed', 'unknown', 'missed')", "outcome IS NOT NULL"),
    ),
    "replays end": _replaying(
        "REPLAY",
        ("attempts::bigint + claims < %(most)s", "%(most)s::int IS NOT NULL"),
    ),
    "a replay looks for who has the key": _replaying(
        "REPLAY", ("AND id NOT IN (SELECT id FROM without_key)", ""),
    ),
    "a replay takes a key that is free": _replaying(
        "REPLAY", ("AND holder.outcome IS NULL", ""),
    ),
    "of two with one key, one is replayed": _replaying(
        "REPLAY",
        ("SELECT DISTINCT ON (key, CASE WHEN key IS NULL THEN id END)",
         "SELECT"),
    ),
    "a replayed timer has its key": _replaying(
        "REPLAY", ("SET timer_id = chosen.id", "SET key = timer_key.key"),
    ),
    "a replay locks its timer": _replaying(
        "REPLAY", ("ORDER BY id FOR UPDATE", ""),
    ),
    "a replay locks its key": _replaying(
        "LOCK_KEYS", ("FOR UPDATE", ""),
    ),
    "who replays a timer has its key locked until all is done": _replaying(
        "_replay",
        (", connection.transaction()", ""),
        ("with connection.transaction():", "if True:"),
    ),
    "a replay takes the token away": _replaying(
        "REPLAY", ("claim_token = NULL,", ""),
    ),
    "a replay forgets that it was sent": _replaying(
        "REPLAY", ("sent_at = NULL,", ""),
    ),
    "a replay begins the retries anew": _replaying(
        "REPLAY", ("retries = 0,", ""),
    ),
    "a replay has patience of its own": _replaying(
        "REPLAY", ("retry_until = NULL,", ""),
    ),
    "a replay forgets the crashes": _replaying(
        "REPLAY",
        ("attempts = attempts + claims, claims = 0,", ""),
    ),
    "a replay may be late from its own time": _replaying(
        "REPLAY", ("replayed_at = now,", ""),
    ),
}
