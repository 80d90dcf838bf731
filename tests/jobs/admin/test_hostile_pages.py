"""No query string, form or id makes a page of staff answer 500."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.test import Client
from django.urls import reverse

from access.models import Account, ApiKey
from access.services import create_key
from chat.models import Chain, Conversation, Message
from jobs.models import Delivery, Job, Worker
from tests.jobs.admin.pages import (
    _pages_without_collected_static_files,
    make_delivery,
    staff,
)
from tests.support.rows import make_job, make_worker

__all__ = ["_pages_without_collected_static_files", "staff"]

pytestmark = pytest.mark.django_db

VALUES = [
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    "\ud800".encode("utf-8", "surrogatepass"),
    b"9" * 5000,
    b"99999999999999999999",
    b"-1",
    b"1e400",
    b"NaN",
    b"",
    b"'\"<script>",
    "\u0661\u0662".encode(),
    b"2024-13-45",
    b"0000-00-00",
    b"9999-12-31T23:59:60+99:99",
    b"{}",
    b"null",
    b"True,False",
    b"x" * 6000,
    b"%00",
    b"../..",
    b"None",
    b"__class__",
    str(uuid.UUID(int=0)).encode(),
]
LOOKUPS = [
    "", "__exact", "__iexact", "__in", "__isnull", "__gte", "__lt", "__range", "__contains",
    "__regex", "__year", "__date", "__nope", "__id__exact", "__pk", "__in__in",
]  # fmt: skip
OWN = ["o", "p", "q", "all", "e", "_facets", "_to_field", "_popup", "_changelist_filters",
       "submitted", "api", "priority", "state", "next", "year", "month", "day",
       "created_at__year", "created_at__month"]  # fmt: skip


SAMPLES = 40


def names_of(model: type[models.Model]) -> list[str]:
    """Return the parameters that a list of a model may understand, or nearly."""
    fields = [field.name for field in model._meta.get_fields()]
    return [*OWN, *(f"{name}{lookup}" for name in [*fields, "pk", "nope"] for lookup in LOOKUPS)]


def urls_of(model: type[models.Model], pk: object) -> Iterator[str]:
    """Yield the pages of a model."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    for page in ("changelist", "add"):
        yield reverse(f"{name}_{page}")
    for page in ("change", "history", "delete"):
        yield reverse(f"{name}_{page}", args=[pk])


def status_of(client: Client, method: str, url: str, *data: Any) -> int:
    """Return the status of a request, and take back what it did, a failed statement included."""
    with transaction.atomic():
        status: int = getattr(client, method)(url, *data).status_code
        transaction.set_rollback(True)
    return status


def faults(client: Client, method: str, requests: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return those of some requests that are answered 500."""
    return [request for request in requests if status_of(client, method, *request) >= 500]


def other_urls() -> Iterator[str]:
    """Yield the pages of no single model."""
    for name in ("index", "password_change", "jobs_job_task_status", "chat_chain_response_cache"):
        yield reverse(f"admin:{name}")
    for name in ("autoscaler", "database-servers", "docs", "admin:login", "admin:jsi18n"):
        yield reverse(name)
    for app in ("access", "auth", "chat", "jobs", "nope"):
        yield f"/admin/{app}/"


@pytest.fixture
def rows(django_user_model: Any) -> dict[type[models.Model], Any]:
    """Return a row of each model that has pages."""
    key = create_key(name="key", account_name="acme").key
    job = make_job(account=key.account)
    conversation = Conversation.objects.create(account=key.account, chain=job.chain)
    Message.objects.create(conversation=conversation, position=1, role="user", content="Hi")
    found = [
        key,
        key.account,
        job.chain,
        conversation,
        job,
        make_delivery(job),
        make_worker(),
        Group.objects.create(name="group"),
        django_user_model.objects.create_user("somebody", is_staff=True),
    ]
    return {type(row): row for row in found}


@pytest.fixture
def hostile_client(admin_client: Client) -> Client:
    """Return a superuser's client that answers 500 as a server would."""
    admin_client.raise_request_exception = False
    return admin_client


MODELS = [Account, ApiKey, Chain, Conversation, Job, Delivery, Worker, Group, User]


def test_all_models_with_pages_are_looked_at(rows: dict[type[models.Model], Any]) -> None:
    registered = {model for model in apps.get_models() if admin.site.is_registered(model)}
    assert rows.keys() == registered == set(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_query_string_is_a_500(
    hostile_client: Client, rows: dict[type[models.Model], Any], model: type[models.Model]
) -> None:
    generator = random.Random(13)
    changelist, *others = urls_of(model, rows[model].pk)
    pairs = list(itertools.product(names_of(model), VALUES))
    # A zero byte for each name of our own, as it is what was found first.
    chosen = [(changelist, name, b"\0") for name in OWN]
    chosen += [(changelist, f"{text_field_of(model)}__range", b"one")]
    chosen += [(changelist, *pair) for pair in generator.sample(pairs, SAMPLES)]
    chosen += [(url, *pair) for url in others for pair in generator.sample(pairs, 3)]
    queries = [(f"{url}?{quote(name)}={quote_from_bytes(value)}",) for url, name, value in chosen]
    assert faults(hostile_client, "get", queries) == []


def text_field_of(model: type[models.Model]) -> str:
    """Return the name of a field of text."""
    return next(
        (field.name for field in model._meta.fields if isinstance(field, models.CharField)), "pk"
    )


def test_no_query_string_of_the_other_pages_is_a_500(hostile_client: Client) -> None:
    queries = [
        (f"{url}?{name}={quote_from_bytes(value)}",)
        for url in other_urls()
        for name, value in (("next", b"\0"), ("p", b"9" * 5000), ("lang", b"\xff"))
    ]
    assert faults(hostile_client, "get", queries) == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_id_is_a_500(hostile_client: Client, model: type[models.Model]) -> None:
    generator = random.Random(13)
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    changelist = reverse(f"{name}_changelist")
    content_type = ContentType.objects.get_for_model(model).pk
    urls = []
    for value in [b"\0", b"abc", *generator.sample(VALUES, 6)]:
        pk = quote_from_bytes(value, safe="")
        urls += [(f"{changelist}{pk}/{page}/",) for page in ("change", "history", "delete")]
        urls += [(f"{changelist}{pk}/",), (f"/admin/r/{content_type}/{pk}/",)]
    assert faults(hostile_client, "get", urls) == []


def test_no_redirect_or_completion_is_a_500(hostile_client: Client) -> None:
    urls = []
    for value in VALUES:
        text = quote_from_bytes(value, safe="")
        query = f"term={text}&app_label={text}&model_name=account&field_name={text}"
        urls += [(f"/admin/r/{text}/{text}/",), (f"/admin/autocomplete/?{query}",)]
    assert faults(hostile_client, "get", urls) == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_form_is_a_500(
    hostile_client: Client, rows: dict[type[models.Model], Any], model: type[models.Model]
) -> None:
    generator = random.Random(13)
    texts = [value.decode(errors="replace") for value in VALUES]
    changelist, *pages = urls_of(model, rows[model].pk)
    names = [field.name for field in model._meta.get_fields()]
    names += ["expires_at_0", "expires_at_1", "password1", "password2", "usable_password", "post"]
    names += ["messages-TOTAL_FORMS", "messages-INITIAL_FORMS", "messages-0-id", "_saveasnew"]
    forms: list[tuple[Any, ...]] = [
        (page, {name: generator.choice(texts) for name in names})
        for page in pages
        for _ in range(6)
    ]
    actions = list(admin.site.get_model_admin(model).get_actions(request_of(hostile_client)))
    chosen = ["\0", "abc", *generator.sample(texts, 6)]
    for action, text in itertools.product([*actions, "nope", "\0"], chosen):
        form = {"action": action, "_selected_action": text, "index": generator.choice(texts)}
        if generator.random() < 0.3:
            form["select_across"] = generator.choice(texts)
        forms.append((changelist, form))
    assert faults(hostile_client, "post", forms) == []


def request_of(client: Client) -> Any:
    """Return a request of the client's user."""
    return client.get("/admin/").wsgi_request


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_who_may_only_look_can_look_at_every_page(
    staff: Any, rows: dict[type[models.Model], Any], model: type[models.Model]
) -> None:
    client = staff(
        *Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True)
    )
    client.raise_request_exception = False
    changelist, add, change, history, delete = urls_of(model, rows[model].pk)
    assert [client.get(url).status_code for url in (changelist, change, history)] == [200] * 3
    assert [client.get(url).status_code for url in (add, delete)] == [403] * 2
    assert client.post(change, {}).status_code == 403


def test_staff_without_permissions_see_nothing(
    staff: Any, rows: dict[type[models.Model], Any]
) -> None:
    client = staff()
    public = {reverse("docs"), "/admin/", reverse("admin:login")}
    own = {reverse("admin:password_change"), reverse("admin:jsi18n")}
    closed = [url for model in MODELS for url in urls_of(model, rows[model].pk)]
    closed += [url for url in other_urls() if url not in public | own]
    statuses = {url: client.get(url).status_code for url in closed}
    assert {url for url, status in statuses.items() if status not in (403, 404)} == set()


class Inline(HTMLParser):
    """What of a page a Content-Security-Policy without `unsafe-inline` would not run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        is_script = tag == "script" and attributes.get("type", "text/javascript") in RUN
        if tag == "style" or (is_script and "src" not in attributes):
            self.found.append(tag)
        for name, value in attrs:
            if name == "style" or name.startswith("on") or (value or "").startswith("javascript:"):
                self.found.append(f"{tag} {name}={value}")


RUN = ("text/javascript", "module", "application/javascript")


def test_no_page_has_a_script_or_a_style_inside(
    admin_client: Client, rows: dict[type[models.Model], Any]
) -> None:
    urls = [url for model in MODELS for url in urls_of(model, rows[model].pk)]
    for url in [*urls, *other_urls()]:
        response = admin_client.get(url, follow=True)
        policy = response.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        if response.headers["Content-Type"].startswith("text/html"):
            page = Inline()
            page.feed(response.content.decode())
            assert page.found == [], url
