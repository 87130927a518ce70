"""Prometheus's rules and Grafana's dashboard use metrics that there are."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from apps.monitoring.metrics import catalogue, exposition, stored
from deploy.local import needs

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads(
    (MONITORING / "grafana" / "dashboards" / "timers.json").read_text()
)
RULES: list[dict[str, Any]] = yaml.safe_load(
    (MONITORING / "rules.yml").read_text()
)["groups"][0]["rules"]
SITUATIONS = yaml.safe_load((MONITORING / "rules_test.yml").read_text())
EXPRESSIONS = [
    *(rule["expr"] for rule in RULES),
    *(
        target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ),
]
NAMES = {metric.name for metric in catalogue.ALL} | {
    name for name, _ in [*stored._NAMES.values(), stored._ANSWERS]
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_name_metrics_that_there_are(expression: str) -> None:
    used = re.findall(r"\btimers_\w+", expression)

    for name in used:
        plain = re.sub("_bucket$|_sum$|_count$", "", name)
        assert {name, plain} & NAMES


def test_operate_explains_each_metric() -> None:
    page = (ROOT / "docs" / "operate.md").read_text()

    assert set(re.findall(r"^\| `(timers_\w+)", page, re.MULTILINE)) == NAMES


def test_each_alert_has_a_situation_in_which_it_fires() -> None:
    fired = {
        each["alertname"]
        for situation in SITUATIONS["tests"]
        for each in situation["alert_rule_test"]
        if each.get("exp_alerts")
    }

    assert fired == {rule["alert"] for rule in RULES}


def test_panels_do_not_overlap() -> None:
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def promtool(*command: str, given: bytes = b"") -> None:
    """Run promtool; skip the test if it is not there."""
    program = needs.promtool()
    if program is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [program, *command], cwd=MONITORING, input=given, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode()


def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", "rules_test.yml")


def test_names_are_as_prometheus_wants_them() -> None:
    promtool(
        "check", "metrics", given=generate_latest(exposition.counted())
    )
