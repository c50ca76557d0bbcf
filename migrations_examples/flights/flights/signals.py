"""What most projects write today: counters kept by Python signals. They are here to be compared with the rules.

Written with care: F() updates, the old row read back before it is saved, deletes counted too. They drift all the same,
because most writers never call them.
"""

from __future__ import annotations

from typing import Any

from django.db.models import F, Model
from django.db.models.signals import post_delete, post_save, pre_save

from flights.models import Airline, Flight, Plane


def connect() -> None:
    """Start counting by signals."""
    pre_save.connect(remember_old_row, sender=Flight)
    post_save.connect(count_saved, sender=Flight)
    post_delete.connect(count_deleted, sender=Flight)


def remember_old_row(sender: type[Model], instance: Flight, **kwargs: Any) -> None:
    """Read the row as it is stored: a changed foreign key or flag has to be taken off where it was counted."""
    instance.old_row = Flight.objects.filter(pk=instance.pk).first()


def count_saved(sender: type[Model], instance: Flight, **kwargs: Any) -> None:
    """Count the new row, and take off the old one."""
    if instance.old_row is not None:
        add(instance.old_row, -1)
    add(instance, 1)


def count_deleted(sender: type[Model], instance: Flight, **kwargs: Any) -> None:
    """Take off the deleted row."""
    add(instance, -1)


def add(flight: Flight, sign: int) -> None:
    """Add a flight to its airline and its plane, or take it off."""
    Airline.objects.filter(pk=flight.airline_id).update(
        signal_num_flights=F("signal_num_flights") + sign,
        signal_num_cancelled=F("signal_num_cancelled") + sign * int(flight.cancelled),
    )
    Plane.objects.filter(pk=flight.plane_id).update(signal_num_flights=F("signal_num_flights") + sign)
