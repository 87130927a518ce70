"""What the API's document says, the running service does."""

import json
from typing import Any

import pytest
import schemathesis
from django.core.serializers.json import DjangoJSONEncoder
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

from config.api import api
from tests.support.service import Service

# The test database is made only for tests that say that they need it.
pytestmark = pytest.mark.django_db(transaction=True)

DOCUMENT = json.loads(
    json.dumps(api.get_openapi_schema(path_prefix=""), cls=DjangoJSONEncoder)
)
schema = schemathesis.openapi.from_dict(DOCUMENT)


def test_the_document_is_the_one_that_is_served(web: Service) -> None:
    assert web.request("GET", "/api/openapi.json") == (200, DOCUMENT)


@schema.parametrize()
@settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_the_service_keeps_to_its_document(
    case: "Case[Any]", web: Service
) -> None:
    # That the units add up to 365 days at most, and what a URL must be,
    # a schema can't say; test_api_create.py has both.
    unsaid: Any = CHECKS.get_one("positive_data_acceptance")
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{web.port}", excluded_checks=[unsaid]
    )


def test_every_operation_is_tried() -> None:
    tried = {
        f"{found.ok().method.upper()} {found.ok().path}"
        for found in schema.get_all_operations()
        if isinstance(found, Ok)
    }
    assert tried == {
        "POST /timer",
        "GET /timer/{timer_uuid}",
        "DELETE /timer/{timer_uuid}",
        "GET /timer/{timer_uuid}/attempts",
        "POST /timer/{timer_uuid}/replay",
        "GET /timers",
        "POST /timers/replay",
        "GET /livez",
        "GET /readyz",
    }


def test_operations_have_names_of_their_own() -> None:
    operations = [
        found.ok().definition.raw["operationId"]
        for found in schema.get_all_operations()
        if isinstance(found, Ok)
    ]
    assert sorted(operations) == [
        "cancel_timer", "create_timer", "get_attempts", "get_timer",
        "list_timers", "livez", "readyz", "replay_timer", "replay_timers",
    ]
