"""start.sh, with stand-ins for nginx, the look-up and the pause."""

import os
import subprocess
from pathlib import Path

from tests.support.waiting import eventually

SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "nginx" / "start.sh"


def test_nginx_is_reloaded_when_web_has_other_addresses(
    tmp_path: Path,
) -> None:
    found, told = tmp_path / "found", tmp_path / "told"
    found.write_text("10.0.0.2 STREAM web\n10.0.0.2 DGRAM\n")
    told.write_text("")
    for name, script in {
        "getent": f'[ "$*" = "ahosts web" ] && cat {found}',
        "nginx": f'echo "$*" >> {told}; case $* in *daemon*) cat;; esac',
        "sleep": 'exec /bin/sleep 0.02',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    process = subprocess.Popen(
        [SCRIPT], stdin=subprocess.PIPE,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, start_new_session=True,
    )  # fmt: skip

    def commands_given() -> list[str]:
        return [line.removeprefix("-e stderr ") for line in
                told.read_text().splitlines()]  # fmt: skip

    try:
        eventually(lambda: commands_given() == ["-g daemon off;"])
        found.write_text("")  # nobody is there to be asked
        found.write_text("10.0.0.3 STREAM web\n10.0.0.2 STREAM web\n")
        eventually(lambda: "-s reload" in commands_given())
        found.write_text("10.0.0.2 STREAM web\n10.0.0.3 STREAM web\n")
        found.write_text("10.0.0.3 STREAM web\n")
        eventually(lambda: commands_given().count("-s reload") == 2)
        assert commands_given()[1:] == ["-t -q", "-s reload"] * 2
    finally:
        os.killpg(process.pid, 9)
        process.wait(10)
        assert process.stdin
        process.stdin.close()
