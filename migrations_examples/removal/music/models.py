"""Albums and their tracks; a rule of the album, and then its column, have gone."""

from __future__ import annotations

from django.db import models
from django.db.models import Count

from trigger_kit import Denormalize


class Album(models.Model):
    """An album knows how many tracks it has. It once knew how long they play."""

    title = models.CharField(max_length=80)
    num_tracks = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_tracks", Count("tracks"))]

    def __str__(self) -> str:
        return self.title


class Track(models.Model):
    """A track of an album."""

    album = models.ForeignKey(Album, models.CASCADE, related_name="tracks")
    seconds = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.album_id}: {self.seconds} s"
