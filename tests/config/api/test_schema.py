"""The OpenAPI document, and whether the API conforms to it."""

from __future__ import annotations

import math
import os
import random
import re
from typing import Any

import httpx
import pytest
import schemathesis
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, given, seed, settings
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.stack_plugin import EmbeddedStack

CHECKS: Any = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
    unsupported_method,
    ignored_auth,
]
OPERATIONS = (
    ("post", "/v1/chat/completions"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{slug}"),
    ("post", "/v1/conversations"),
    ("get", "/v1/conversations"),
    ("get", "/v1/conversations/{public_id}"),
    ("patch", "/v1/conversations/{public_id}"),
    ("delete", "/v1/conversations/{public_id}"),
    ("get", "/v1/conversations/{public_id}/messages"),
    ("post", "/v1/conversations/{public_id}/messages"),
    ("post", "/chains/{slug}/invoke"),
    ("post", "/chains/{slug}/batch"),
    ("post", "/chains/{slug}/stream"),
    ("get", "/chains/{slug}/input_schema"),
    ("get", "/chains/{slug}/output_schema"),
    ("get", "/chains/{slug}/config_schema"),
    ("post", "/v1/jobs"),
    ("get", "/v1/jobs"),
    ("get", "/v1/jobs/{public_id}"),
    ("post", "/v1/jobs/{public_id}/cancel"),
    ("post", "/v1/jobs/{public_id}/retry"),
    ("get", "/v1/jobs/{public_id}/events"),
    ("post", "/v1/responses"),
    ("get", "/v1/responses/{public_id}"),
    ("post", "/v1/responses/{public_id}/cancel"),
    ("get", "/v1/webhook_secret"),
    ("post", "/v1/webhook_secret/rotate"),
)
LISTS = ("/v1/conversations", "/v1/conversations/{public_id}/messages", "/v1/jobs")
# Nothing can be wrong with them but the id.
BARE_POSTS = ("cancel", "retry", "rotate")
CASES = [
    *((*operation, GenerationMode.POSITIVE) for operation in OPERATIONS),
    # Where there is something to get wrong: a body, or a page's parameters.
    *(
        (method, path, GenerationMode.NEGATIVE)
        for method, path in OPERATIONS
        if (method in ("post", "patch") and not path.endswith(BARE_POSTS)) or path in LISTS
    ),
]
# In one run of the fault suite, over all operations.
SEEDED_CASES = 2000
# Chains without a model of their own, or with one that answers at once.
QUICK_CHAINS = ("provider-hello", "echo", "mirror", "words", "typed")


@pytest.fixture(scope="module")
def document(stack: EmbeddedStack) -> dict[str, Any]:
    """The OpenAPI document."""
    response = httpx.get(f"{stack.url}/v1/schema")
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


# --- The document -------------------------------------------------------------------------------
def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    validate_schema(document)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '([^']+)'", str(document)))
    assert references
    for reference in references:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_every_address_of_the_api_is_described(document: dict[str, Any]) -> None:
    described = {
        (method, path) for path, methods in document["paths"].items() for method in methods
    }
    assert described == set(OPERATIONS)


def test_every_operation_has_a_name_and_says_what_it_does(document: dict[str, Any]) -> None:
    operations = [op for methods in document["paths"].values() for op in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["description"] for operation in operations)
    assert all(operation["security"] == [{"ApiKey": []}] for operation in operations)


def test_the_document_is_the_same_from_every_node(
    node_urls: list[str], document: dict[str, Any]
) -> None:
    for url in node_urls:
        assert httpx.get(f"{url}/v1/schema").json() == document


# --- The pages ----------------------------------------------------------------------------------
def test_docs_are_a_page_of_local_files_alone(stack: EmbeddedStack) -> None:
    page = httpx.get(f"{stack.url}/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page.text)
    files = re.findall(r"""(?:src|href)=["'](/[^"']+)["']""", page.text)
    assert len(files) >= 4
    scripts = ""
    for file in files:
        response = httpx.get(f"{stack.url}{file}")
        assert response.status_code == 200, file
        assert len(response.content) > 100
        scripts += response.text if file.startswith("/docs/script.js") else ""
    assert "/v1/schema" in scripts


# --- Conformance --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def described(stack: EmbeddedStack, chains: None) -> Any:
    """The schema as schemathesis reads it."""
    return schemathesis.openapi.from_url(f"{stack.url}/v1/schema")


@pytest.fixture(scope="module")
def conversations(make_http: Any, chains: None) -> list[str]:
    """Conversations of the calling key."""
    http = make_http("schema")
    return [
        http.post("/v1/conversations", json={"chain": "provider-hello"}).json()["id"]
        for _ in range(3)
    ]


@pytest.fixture(scope="module")
def jobs(make_http: Any, chains: None) -> list[str]:
    """Jobs of the calling key."""
    http = make_http("schema")
    return [
        http.post("/v1/jobs", json={"chain": "echo", "input": "x"}).json()["id"] for _ in range(3)
    ]


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_the_api_conforms_to_its_document(
    call: Any, *, method: str, path: str, mode: GenerationMode
) -> None:
    @settings(
        max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=call.operation(method, path).as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        call(case)

    check()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_two_thousand_cases_by_seed_are_answered_as_described(call: Any) -> None:
    number = int(os.environ.get("FAULTS_SEED") or random.randrange(1_000_000))
    print(f"FAULTS_SEED={number}")  # noqa: T201  (repeats the run)
    each = math.ceil(SEEDED_CASES / len(CASES))
    made = 0
    for method, path, mode in CASES:

        @seed(number)
        @settings(
            max_examples=each, database=None, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=call.operation(method, path).as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            nonlocal made
            made += 1
            call(case)

        check()
    # Some operations have fewer cases than that; others are shrunk or repeated.
    assert made > SEEDED_CASES / 2


class Call:
    """Sends a generated case, mostly with names and ids that exist, and checks its answer."""

    def __init__(
        self, described: Any, key: str, *, conversations: list[str], jobs: list[str]
    ) -> None:
        self._described = described
        self._headers = {"Authorization": f"Bearer {key}"}
        self._conversations = conversations
        self._jobs = jobs

    def operation(self, method: str, path: str) -> Any:
        """Return an operation of the document."""
        return self._described[path][method]

    def __call__(self, case: Any) -> None:
        """Send the case; raises what a check of schemathesis raises."""
        # Made-up names would only ever find nothing.
        pick = random.Random(str(case.body) + str(case.query))
        if "slug" in case.path_parameters and pick.random() < 0.8:
            case.path_parameters["slug"] = pick.choice(QUICK_CHAINS)
        if "public_id" in case.path_parameters and pick.random() < 0.8:
            is_job = case.operation.path.startswith("/v1/jobs")
            case.path_parameters["public_id"] = pick.choice(
                self._jobs if is_job else self._conversations
            )
        if isinstance(case.body, dict) and pick.random() < 0.8:
            for name in {"model", "chain"} & case.body.keys():
                case.body[name] = pick.choice(QUICK_CHAINS)
        case.call_and_validate(headers=self._headers, checks=CHECKS)


@pytest.fixture(scope="module")
def call(
    described: Any, keys: dict[str, dict[str, str]], conversations: list[str], jobs: list[str]
) -> Call:
    """Send cases with the key that has the conversations and the jobs."""
    return Call(described, keys["schema"]["key"], conversations=conversations, jobs=jobs)
