"""Declare models with rules, and read what the checks say of them."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.checks import CheckMessage
from django.db import models
from django.db.models import Count, OuterRef, Q

from trigger_kit import Denormalize, Rows
from trigger_kit.checks import rules as checks
from trigger_kit.checks.rules import check_rules


def declare(
    name: str, /, bases: tuple[Any, ...] = (models.Model,), meta: dict[str, Any] | None = None, **fields: Any
) -> Any:
    """Declare a model of the app ``library``."""
    options = type("Meta", (), {"app_label": "library", **(meta or {})})
    return type(name, bases, {"__module__": __name__, "Meta": options, **fields})


def declared(name: str) -> Any:
    """Return a model that this test has declared."""
    return checks.live_apps.get_model("library", name)


def author(*rules: Any, meta: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Declare Author with these rules; ``num_books``, ``flag`` and ``label`` are NOT NULL, the rest is not."""
    kept = {
        "num_books": models.IntegerField(default=0, editable=False),
        "flag": models.BooleanField(default=False, editable=False),
        "label": models.TextField(default="", editable=False),
        "total": models.DecimalField(max_digits=20, decimal_places=2, null=True, editable=False),
        "text": models.TextField(null=True, editable=False),
        "day": models.DateField(null=True, editable=False),
        "moment": models.DateTimeField(null=True, editable=False),
        "document": models.JSONField(null=True, editable=False),
    }
    return declare("Author", meta={"denormalizations": list(rules), **(meta or {})}, **{**kept, **fields})


def book(meta: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Declare Book, with a foreign key to Author."""
    own: dict[str, Any] = {
        "author": models.ForeignKey("Author", models.CASCADE, related_name="books"),
        "title": models.CharField(max_length=200, default=""),
        "pages": models.IntegerField(null=True),
        "price": models.DecimalField(max_digits=10, decimal_places=2, null=True),
        "weight": models.FloatField(null=True),
        "published": models.BooleanField(default=False),
        "published_at": models.DateTimeField(null=True),
        "printed_on": models.DateField(null=True),
        "read_in": models.DurationField(null=True),
    }
    return declare("Book", meta=meta, **{**own, **fields})


def chapter(**fields: Any) -> Any:
    """Declare Chapter, with a foreign key to Book."""
    return declare("Chapter", book=models.ForeignKey("Book", models.CASCADE, related_name="chapters"), **fields)


def tag() -> Any:
    """Declare Tag, which points at a row of any model."""
    return declare(
        "Tag",
        content_type=models.ForeignKey(ContentType, models.CASCADE),
        object_id=models.BigIntegerField(db_index=True),
        content_object=GenericForeignKey(),
    )


def keep(field: str, expression: Any, **options: Any) -> Any:
    """Declare Author and Book with one rule of the author."""
    model = author(Denormalize(field, expression, **options))
    book()
    return model


def keep_count(field: str = "num_books", **options: Any) -> Any:
    """Declare Author and Book with a rule that counts books."""
    return keep(field, Count("books"), **options)


def books() -> Any:
    """Return the books of an author, written down."""
    return Rows("library.Book").filter(author=OuterRef("pk"))


def counted(**condition: Any) -> Count:
    """Count the books that fulfil a condition."""
    return Count("books", filter=Q(**condition))


def only_message() -> CheckMessage:
    """Return the one message of the checks; its hint must be a way out, in full sentences."""
    messages = check_rules(None)
    assert len(messages) == 1, messages
    (message,) = messages
    assert message.hint is not None
    assert re.match(r"[A-Z].*[.?]$", message.hint, re.DOTALL)
    return message


def assert_refused(check_id: str, uri: str, reason: str, hint: str) -> None:
    """Assert that the checks give one message, which names the rule, the reason and the way out."""
    message = only_message()
    assert message.id == f"trigger_kit.{check_id}", message
    assert uri in message.msg
    assert reason in message.msg
    assert hint in message.hint


def assert_accepted() -> None:
    """Assert that the checks have nothing to say."""
    found = check_rules(None)
    assert found == [], found
