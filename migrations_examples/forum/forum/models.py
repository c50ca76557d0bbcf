"""A forum: categories, forums and sub-forums, topics, posts, profiles. Every column that is not written is a rule."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Count, F, Max, Q, Sum, Value
from django.db.models.functions import Coalesce
from django.utils.timezone import now

from trigger_kit import Denormalize, First

APPROVED = Q(posts__on_moderation=False)


class Category(models.Model):
    """A heading on the front page, with the sums over its forums."""

    name = models.CharField(max_length=80)
    position = models.IntegerField(default=0)
    num_forums = models.IntegerField(default=0, editable=False)
    num_topics = models.IntegerField(default=0, editable=False)
    num_posts = models.IntegerField(default=0, editable=False)
    last_activity = models.DateTimeField(null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_forums", Count("forums")),
            Denormalize("num_topics", Sum("forums__num_topics", default=0)),
            Denormalize("num_posts", Sum("forums__num_posts", default=0)),
            Denormalize("last_activity", Max("forums__last_activity")),
        ]

    def __str__(self) -> str:
        return self.name


class Forum(models.Model):
    """A forum or sub-forum. It counts topics, and adds up what the topics have counted."""

    category = models.ForeignKey(Category, models.CASCADE, related_name="forums")
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="child_forums")
    name = models.CharField(max_length=80)
    position = models.IntegerField(default=0)
    num_child_forums = models.IntegerField(default=0, editable=False)
    num_topics = models.IntegerField(default=0, editable=False)
    num_posts = models.IntegerField(default=0, editable=False)
    num_posts_below = models.IntegerField(default=0, editable=False)
    last_activity = models.DateTimeField(null=True, editable=False)
    # DO_NOTHING: the database moves these keys on before Django could.
    last_post = models.ForeignKey("Post", models.DO_NOTHING, null=True, editable=False, related_name="+")

    class Meta:
        denormalizations = [
            Denormalize("num_child_forums", Count("child_forums")),
            Denormalize("num_topics", Count("topics", filter=Q(topics__on_moderation=False))),
            Denormalize("num_posts", Sum("topics__num_posts", default=0)),
            Denormalize("num_posts_below", F("num_posts") + Sum("child_forums__num_posts_below", default=0)),
            Denormalize("last_activity", Max("topics__last_activity")),
            Denormalize(
                "last_post",
                First(
                    "topics__last_post",
                    order_by=["-topics__last_post_at", "-topics__last_post"],
                    filter=Q(topics__last_post__isnull=False),
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Topic(models.Model):
    """A topic counts its approved posts, and knows the first and the last one."""

    forum = models.ForeignKey(Forum, models.CASCADE, related_name="topics")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="topics")
    name = models.CharField(max_length=255)
    created = models.DateTimeField(default=now)
    sticky = models.BooleanField(default=False)
    on_moderation = models.BooleanField(default=True, editable=False)
    num_posts = models.IntegerField(default=0, editable=False)
    num_pending = models.IntegerField(default=0, editable=False)
    first_post = models.ForeignKey("Post", models.DO_NOTHING, null=True, editable=False, related_name="+")
    last_post = models.ForeignKey("Post", models.DO_NOTHING, null=True, editable=False, related_name="+")
    last_post_at = models.DateTimeField(null=True, editable=False)
    last_activity = models.DateTimeField(null=True, editable=False)
    last_poster_name = models.CharField(max_length=150, default="", editable=False)

    class Meta:
        denormalizations = [
            Denormalize(
                "on_moderation",
                First("posts__on_moderation", order_by=["posts__created", "posts__id"], default=True),
            ),
            Denormalize("num_posts", Count("posts", filter=APPROVED)),
            Denormalize("num_pending", Count("posts", filter=Q(posts__on_moderation=True))),
            Denormalize("first_post", First("posts", order_by=["posts__created", "posts__id"])),
            Denormalize("last_post", First("posts", order_by=["-posts__created", "-posts__id"], filter=APPROVED)),
            Denormalize("last_post_at", Max("posts__created", filter=APPROVED)),
            Denormalize("last_activity", Max(Coalesce("posts__updated", "posts__created"), filter=APPROVED)),
            Denormalize("last_poster_name", Coalesce(F("last_post__user_name"), Value(""))),
        ]

    def __str__(self) -> str:
        return self.name


class Post(models.Model):
    """A post; it carries its poster's name and its forum, so that a page of posts needs no join."""

    topic = models.ForeignKey(Topic, models.CASCADE, related_name="posts")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="posts")
    body = models.TextField()
    created = models.DateTimeField(default=now)
    updated = models.DateTimeField(null=True, blank=True)
    on_moderation = models.BooleanField(default=False)
    user_name = models.CharField(max_length=150, default="", editable=False)
    forum = models.ForeignKey(Forum, models.DO_NOTHING, null=True, editable=False, related_name="+")

    class Meta:
        indexes = [models.Index(fields=["topic", "created"], name="forum_post_topic_created")]
        denormalizations = [
            Denormalize("user_name", F("user__username")),
            Denormalize("forum", F("topic__forum")),
        ]

    def __str__(self) -> str:
        return self.body[:50]


class Profile(models.Model):
    """What the forum knows of a user of django.contrib.auth, whose tables it leaves alone."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="forum_profile")
    signature = models.TextField(blank=True)
    display_name = models.CharField(max_length=150, default="", editable=False)
    num_topics = models.IntegerField(default=0, editable=False)
    num_posts = models.IntegerField(default=0, editable=False)
    last_post_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("display_name", F("user__username")),
            Denormalize("num_topics", Count("user__topics", filter=Q(user__topics__on_moderation=False))),
            Denormalize("num_posts", Count("user__posts", filter=Q(user__posts__on_moderation=False))),
            Denormalize("last_post_at", Max("user__posts__created", filter=Q(user__posts__on_moderation=False))),
        ]

    def __str__(self) -> str:
        return self.display_name
