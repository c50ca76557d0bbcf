"""Pages and their views: a table that is large, and written all the time."""

from __future__ import annotations

from django.db import models
from django.db.models import Count

from trigger_kit import Denormalize


class Page(models.Model):
    """A page knows how often it was viewed."""

    path = models.CharField(max_length=80)
    num_views = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_views", Count("views"))]

    def __str__(self) -> str:
        return self.path


class View(models.Model):
    """One view of a page."""

    page = models.ForeignKey(Page, models.CASCADE, related_name="views")

    def __str__(self) -> str:
        return f"view of {self.page_id}"
