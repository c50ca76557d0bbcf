"""Articles and their comments; the columns along the path of a rule have got other names."""

from __future__ import annotations

from django.db import models
from django.db.models import Count, Q

from trigger_kit import Denormalize


class Article(models.Model):
    """An article knows how many of its comments are to be seen."""

    title = models.CharField(max_length=80)
    num_comments = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_comments", Count("comments", filter=Q(comments__visible=True)))]

    def __str__(self) -> str:
        return self.title


class Comment(models.Model):
    """A comment, hidden until somebody has looked at it."""

    article = models.ForeignKey(Article, models.CASCADE, related_name="comments")
    visible = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"comment on {self.article_id}"
