"""Models for rules that tests make up: every kind of relation, and on each target spare columns of every type.

No model declares a rule here. A test chooses rules for the spare columns, installs them and takes them away.
"""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.fields import ArrayField
from django.db import models


class Kept(models.Model):
    """Spare columns: those named ``the_…`` are NOT NULL."""

    the_count = models.IntegerField(default=0, editable=False)
    the_total = models.DecimalField(max_digits=20, decimal_places=4, default=0, editable=False)
    the_flag = models.BooleanField(default=False, editable=False)
    the_label = models.TextField(default="", editable=False)
    kept_number = models.BigIntegerField(null=True, editable=False)
    kept_amount = models.DecimalField(max_digits=20, decimal_places=4, null=True, editable=False)
    kept_ratio = models.FloatField(null=True, editable=False)
    kept_text = models.TextField(null=True, editable=False)
    kept_flag = models.BooleanField(null=True, editable=False)
    kept_day = models.DateField(null=True, editable=False)
    kept_moment = models.DateTimeField(null=True, editable=False)
    kept_list = ArrayField(models.TextField(null=True), null=True, editable=False)
    kept_json = models.JSONField(null=True, editable=False)

    class Meta:
        abstract = True


class Country(Kept):
    """The far end of a path of forward hops; its key is a text."""

    code = models.CharField(max_length=8, primary_key=True)
    name = models.CharField(max_length=40, default="")
    rank = models.IntegerField(null=True)


class Publisher(Kept):
    """A middle row: it has a parent and children; its parent is named by another key than the primary one."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    country = models.ForeignKey(Country, models.SET_NULL, null=True, related_name="publishers")
    name = models.CharField(max_length=40, default="")
    number = models.IntegerField(unique=True)
    fee = models.DecimalField(max_digits=8, decimal_places=2, null=True)


class Tag(Kept):
    """The far side of a many-to-many relation."""

    name = models.CharField(max_length=40, default="")
    weight = models.IntegerField(null=True)
    active = models.BooleanField(default=True)


class Work(Kept):
    """The widest model: two parents, children, tags, notes, and columns of every type."""

    publisher = models.ForeignKey(Publisher, models.CASCADE, related_name="works", to_field="number", null=True)
    editor = models.ForeignKey("Person", models.SET_NULL, null=True, related_name="edited")
    title = models.CharField(max_length=40, default="")
    pages = models.IntegerField(null=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    score = models.FloatField(null=True)
    published = models.BooleanField(default=False)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    data = models.JSONField(default=dict)
    least = models.IntegerField(default=0)
    reading_time = models.DurationField(null=True)
    doubled = models.GeneratedField(
        expression=models.F("pages") * 2, output_field=models.IntegerField(), db_persist=True
    )
    tags = models.ManyToManyField(Tag, related_name="works")
    notes = GenericRelation("Note", related_query_name="work")


class Person(Kept):
    """The target of a nullable foreign key, and of a many-to-many relation through a model of the user's."""

    name = models.CharField(max_length=40, default="")
    friends = models.ManyToManyField("self")
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")
    works = models.ManyToManyField(Work, through="Credit", related_name="people")
    notes = GenericRelation("Note", related_query_name="person")
    last_review = models.ForeignKey("Review", models.SET_NULL, null=True, related_name="+", editable=False)


class Credit(models.Model):
    """A through model with columns of its own."""

    person = models.ForeignKey(Person, models.CASCADE, related_name="credits")
    work = models.ForeignKey(Work, models.CASCADE, related_name="credits")
    role = models.CharField(max_length=20, default="")
    share = models.IntegerField(default=1)


class Review(Kept):
    """The leaf of a path of two hops."""

    work = models.ForeignKey(Work, models.CASCADE, related_name="reviews")
    author = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="reviews")
    stars = models.IntegerField(null=True)
    text = models.TextField(default="")
    created = models.DateTimeField(null=True)


class Novel(Work):
    """Multi-table inheritance: its columns lie in a table of their own, keyed by the parent's."""

    genre = models.CharField(max_length=20, default="")
    words = models.IntegerField(null=True)
    series = models.ForeignKey("Series", models.SET_NULL, null=True, related_name="novels")
    kept_title = models.TextField(null=True, editable=False)


class Series(Kept):
    """The parent of rows whose columns lie in two tables."""

    name = models.CharField(max_length=40, default="")


class Note(models.Model):
    """Points at a row of any model, and copies from it."""

    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveIntegerField()
    subject = GenericForeignKey("content_type", "object_id")
    text = models.TextField(default="")
    weight = models.IntegerField(default=1)
    author = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="written")
    kept_text = models.TextField(null=True, editable=False)
    kept_number = models.BigIntegerField(null=True, editable=False)

    class Meta:
        indexes = [models.Index(fields=["content_type", "object_id"])]


class Line(Kept):
    """A composite primary key; its parent is copied from, and its children point at both columns."""

    pk = models.CompositePrimaryKey("work_id", "number")
    work = models.ForeignKey(Work, models.CASCADE, related_name="lines")
    number = models.IntegerField()
    text = models.TextField(default="")


class Node(Kept):
    """A tree, or whatever its writers make of it."""

    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    name = models.CharField(max_length=40, default="")
    own = models.IntegerField(default=1)


class Remark(models.Model):
    """Points at a row with a composite primary key."""

    line_work = models.BigIntegerField(null=True)
    line_number = models.IntegerField(null=True)
    line = models.ForeignObject(
        Line,
        models.DO_NOTHING,
        from_fields=["line_work", "line_number"],
        to_fields=["work_id", "number"],
        related_name="remarks",
        null=True,
    )
    text = models.TextField(default="")
    weight = models.IntegerField(default=1)

    class Meta:
        indexes = [models.Index(fields=["line_work", "line_number"])]
