"""The models that most tests write to: every kind of rule and relation that is supported, under real names."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Count, Q, Sum

from trigger_kit import Denormalize, Guard


class Author(models.Model):
    """Four rules on one edge, one of which is NULL over no rows."""

    name = models.CharField(max_length=200, default="")
    num_books = models.IntegerField(default=0, editable=False)
    num_published = models.PositiveIntegerField(default=0, editable=False)
    pages_total = models.BigIntegerField(default=0, editable=False)
    revenue = models.DecimalField(max_digits=14, decimal_places=2, null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_books", Count("books")),
            Denormalize("num_published", Count("books", filter=Q(books__published=True))),
            Denormalize("pages_total", Sum("books__pages", default=0)),
            Denormalize(
                "revenue",
                Sum("books__price", filter=Q(books__published=True) & ~Q(books__title__icontains="draft'%{}")),
            ),
        ]


class Book(models.Model):
    """The source of most rules; its foreign key is nullable."""

    author = models.ForeignKey(Author, models.CASCADE, related_name="books", null=True)
    title = models.CharField(max_length=200, default="")
    published = models.BooleanField(default=False)
    pages = models.IntegerField(null=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    note = models.TextField(default="")


class Port(models.Model):
    """Two foreign keys of one source feed it, by a key that is not the primary key."""

    code = models.CharField(max_length=4, unique=True, db_column="PortCode")
    departures = models.IntegerField(default=0, editable=False, db_column="order")
    arrivals = models.IntegerField(default=0, editable=False)
    miles_in = models.DecimalField(max_digits=20, decimal_places=0, default=0, editable=False)

    class Meta:
        db_table = "Port of call {x}"
        denormalizations = [
            Denormalize("departures", Count("leaving")),
            Denormalize("arrivals", Count("coming", filter=Q(coming__cancelled=False))),
            Denormalize("miles_in", Sum("coming__miles", default=0), guard=Guard.RAISE),
        ]


class Voyage(models.Model):
    """Its two foreign keys lead to the same table, through ``to_field`` and odd column names."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    origin = models.ForeignKey(Port, models.CASCADE, related_name="leaving", to_field="code", db_column="From")
    destination = models.ForeignKey(
        Port, models.SET_NULL, related_name="coming", related_query_name="coming", to_field="code", null=True
    )
    miles = models.BigIntegerField(default=0, db_column="group")
    cancelled = models.BooleanField(default=False)

    class Meta:
        db_table = "select"


class Person(models.Model):
    """A UUID key, and a one-to-one relation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    num_profiles = models.SmallIntegerField(default=0, editable=False)
    karma = models.IntegerField(null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_profiles", Count("profile")),
            Denormalize("karma", Sum("profile__karma")),
        ]


class Profile(models.Model):
    """One row per person at most."""

    person = models.OneToOneField(Person, models.CASCADE)
    karma = models.SmallIntegerField(null=True)


class Category(models.Model):
    """A self-reference, and the middle of a chain: what it counts is summed by its shelf."""

    shelf = models.ForeignKey("Shelf", models.SET_NULL, null=True, related_name="categories")
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    num_children = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_children", Count("children"))]


class Shelf(models.Model):
    """A rule over a rule."""

    num_categories = models.IntegerField(db_default=0, editable=False)
    num_children = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_categories", Count("categories")),
            Denormalize("num_children", Sum("categories__num_children", default=0)),
        ]
