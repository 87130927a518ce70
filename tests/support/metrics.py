"""Reading /metrics as Prometheus does."""

import urllib.request
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families


def scrape(port: int) -> Counter[str]:
    """Return all numbers; a label's value follows its metric's name."""
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return parsed(answer.read().decode())


def parsed(text: str) -> Counter[str]:
    """Return the numbers of a text as /metrics has them."""
    return Counter({
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    })


def answered(port: int) -> Counter[str]:
    """Return the numbers, none if nobody answers."""
    try:
        return scrape(port)
    except OSError:
        return Counter()
