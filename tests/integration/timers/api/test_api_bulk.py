import json
from typing import Any
import pytest
from django.test import Client
from tests.support.api import GOOD
pytestmark = pytest.mark.django_db(transaction=True)

def test_x(memory_broker) -> None:
    c = Client(raise_request_exception=True)
    a = c.post("/timers", "\n".join([json.dumps(GOOD)]*3), content_type="application/x-ndjson")
    print(a.status_code, b"".join(a.streaming_content) if a.streaming else a.content)
    a = c.post("/timers", json.dumps([GOOD, {"x":1}, 3]), content_type="application/json")
    print(a.status_code, b"".join(a.streaming_content) if a.streaming else a.content)
    assert 0
