"""A machine's own public addresses, in a network namespace that has some.

Nothing leaves the namespace: it has no link to any other.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PRIMARY, SECONDARY, SIX = "198.41.0.4", "198.41.0.5", "2620:fe::9"
#: Of others: in the same subnet, elsewhere.
FOREIGN = ["198.41.0.6", "9.9.9.9", "2620:fe::fe"]

PROGRAM = """
import json, sys, time
from ipaddress import ip_network
from apps.webhooks.client import Policy, WebhookClient
from apps.webhooks.machine import is_own
from apps.webhooks.target import parse_target
from tests.support.receiver import Receiver

own, foreign = json.loads(sys.argv[1])
receiver = Receiver(host=own[0])
receiver.status = 204

def call(*networks):
    client = WebhookClient(Policy(tuple(map(ip_network, networks))))
    result = client.call(
        parse_target(receiver.url()), headers={}, body=b"",
        deadline=time.monotonic() + 5,
    )
    return [result.status_code, result.error]

print(json.dumps({
    "own": [address for address in own if is_own(address)],
    "foreign": [address for address in foreign if is_own(address)],
    "not named": call("198.41.0.5/32"),
    "calls": len(receiver.calls),
    "named": call(own[0] + "/32"),
}))
"""


def in_namespace(own: list[str], setup: str = "") -> dict[str, Any]:
    """Run the program where an interface has the addresses."""
    script = f"""
        set -e
        ip link set lo up
        ip link add near type veth peer name far
        ip link set near up
        ip link set far up
        ip address add {PRIMARY}/24 dev near
        ip address add {SECONDARY}/24 dev near
        [ ! -e /proc/sys/net/ipv6 ] ||
            ip address add {SIX}/64 dev near nodad
        {setup}
        exec "$@"
    """
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh",
         sys.executable, "-c", PROGRAM, json.dumps([own, FOREIGN])],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def missing() -> str:
    """Say what keeps this machine from it; nothing if nothing does."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "network namespaces are for root on Linux"
    for program in ("ip", "unshare"):
        if not shutil.which(program):
            return "apt-get install iproute2 util-linux"
    probe = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "near", "type", "veth"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return probe.stderr.strip()


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def test_own_public_addresses_are_not_called_unless_named() -> None:
    own = [PRIMARY, SECONDARY]
    if Path("/proc/sys/net/ipv6").exists():
        own.append(SIX)

    found = in_namespace(own)

    assert found["not named"] == [
        None, f"blocked: {PRIMARY} is this machine's own address"
    ]
    assert found["calls"] == 0
    assert found["named"] == [204, None]
    assert found["own"] == own
    assert found["foreign"] == []


def test_a_kernel_that_binds_to_any_address_has_no_other_called_own() -> None:
    setting = Path("/proc/sys/net/ipv4/ip_nonlocal_bind")
    if not os.access(setting, os.W_OK):
        pytest.skip(f"{setting} can't be written here")

    found = in_namespace([PRIMARY], f"echo 1 > {setting}")

    assert found["not named"][1].startswith("blocked: ")
    assert found["own"] == [PRIMARY]
    assert found["foreign"] == []
