"""Teams, made of the groups and users of django.contrib.auth, whose files stay as they are."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Count, F

from trigger_kit import Denormalize


class Team(models.Model):
    """A team is a group with a leader. It reads both, and the table between groups and users."""

    group = models.OneToOneField(Group, models.CASCADE, related_name="team")
    leader = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="led_teams")
    num_members = models.IntegerField(default=0, editable=False)
    leader_name = models.CharField(max_length=150, default="", editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_members", Count("group__user")),
            Denormalize("leader_name", F("leader__username")),
        ]

    def __str__(self) -> str:
        return f"team {self.pk}"
