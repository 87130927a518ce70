"""Smoke test of the compose file: it fires, and loses nothing when killed.

usage: [PORT=8000] python -m tests.smoke.compose

The images have been built. It needs Python alone, and leaves the services
running: two web, three workers.
"""

import json
import os
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.smoke.client import Api, fail, say
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
URL = "http://receiver:8080/smoke"
TIMERS = 20
WEBS, WORKERS = 2, 3


def compose(*command: str) -> str:
    """Run docker compose; return its output, or end with its errors."""
    done = subprocess.run(
        ["docker", "compose", *command], cwd=ROOT, capture_output=True,
        text=True, timeout=600, check=False,
    )
    if done.returncode:
        fail(f"docker compose {command[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def start() -> None:
    """Start every service and wait until all are healthy."""
    began = time.monotonic()
    compose(
        "up", "--detach", "--wait", "--no-build",
        "--scale", f"web={WEBS}", "--scale", f"worker={WORKERS}",
    )
    say(f"every service is healthy after {time.monotonic() - began:.0f} s")


def calls() -> Counter[str]:
    """Return how often the receiver logged a call of each timer."""
    log = compose("logs", "--no-color", "--no-log-prefix", "receiver")
    return Counter(re.findall(r" /smoke webhook-id=(\S+) ", log))


def check_calls(timers: list[str]) -> None:
    """Wait until each timer was called; see that none was called twice."""
    eventually(lambda: set(timers) <= set(calls()), within=60, every=0.5)
    if calls() != dict.fromkeys(timers, 1):
        fail(f"not each timer was called once: {calls()}")


def check_keys() -> None:
    """See that management commands run, beside the services."""
    def manage(*command: str) -> str:
        return compose("run", "--rm", "-T", "web", "python", "manage.py",
                       *command)

    key = manage("api_keys", "create", "--account", "default",
                 "--scopes", "read").strip()
    found = {
        each["prefix"] for each in json.loads(
            manage("api_keys", "list", "--json")
        )
    }
    if key.split("_")[1] not in found:
        fail(f"a key that was created is not listed: {found}")


def main() -> None:
    """Run the smoke test."""
    api = Api(int(os.environ.get("PORT", "8000")))
    start()
    timers = [api.set_timer(2, URL)]
    check_calls(timers)
    say("a timer reached its receiver, once")
    check_keys()
    say("an API key was created and listed")

    timers += [api.set_timer(second, URL) for second in range(1, TIMERS + 1)]
    compose("kill", "--signal", "KILL", "worker")
    say(f"{WORKERS} workers were killed, {TIMERS} timers wait")
    running = compose("ps", "--quiet", "worker")
    if running.strip():
        fail(f"workers that were killed are running: {running}")
    start()
    check_calls(timers)
    say("nothing was lost, and nothing called twice")


if __name__ == "__main__":
    main()
