"""All flights that left New York in 2013, and what airlines, planes and airports want to know about them."""

from __future__ import annotations

from django.db import models
from django.db.models import Count, Q, Sum

from trigger_kit import Denormalize


class Airline(models.Model):
    """16 carriers."""

    carrier = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=100)
    num_flights = models.IntegerField(default=0, editable=False)
    num_cancelled = models.IntegerField(default=0, editable=False)
    miles_total = models.BigIntegerField(default=0, editable=False)
    delay_minutes = models.BigIntegerField(null=True, editable=False)
    # What Python signals keep, for comparison: see signals.py.
    signal_num_flights = models.IntegerField(default=0, editable=False)
    signal_num_cancelled = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_flights", Count("flights")),
            Denormalize("num_cancelled", Count("flights", filter=Q(flights__cancelled=True))),
            Denormalize("miles_total", Sum("flights__distance", default=0)),
            Denormalize("delay_minutes", Sum("flights__dep_delay")),
        ]

    def __str__(self) -> str:
        return f"{self.carrier} {self.name}"


class Plane(models.Model):
    """3,322 planes."""

    tailnum = models.CharField(max_length=6, primary_key=True)
    manufacturer = models.CharField(max_length=50)
    model = models.CharField(max_length=50)
    year = models.IntegerField(null=True)
    seats = models.IntegerField()
    num_flights = models.IntegerField(default=0, editable=False)
    air_minutes = models.BigIntegerField(default=0, editable=False)
    signal_num_flights = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_flights", Count("flights")),
            Denormalize("air_minutes", Sum("flights__air_time", default=0)),
        ]

    def __str__(self) -> str:
        return self.tailnum


class Airport(models.Model):
    """1,458 airports; flights lead to them by two foreign keys."""

    faa = models.CharField(max_length=3, primary_key=True)
    name = models.CharField(max_length=100)
    num_departures = models.IntegerField(default=0, editable=False)
    num_arrivals = models.IntegerField(default=0, editable=False)
    num_weather_reports = models.IntegerField(default=0, editable=False)
    rain_inches = models.DecimalField(max_digits=12, decimal_places=2, default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_departures", Count("departures", filter=Q(departures__cancelled=False))),
            Denormalize("num_arrivals", Count("arrivals", filter=Q(arrivals__cancelled=False))),
            Denormalize("num_weather_reports", Count("weather")),
            Denormalize("rain_inches", Sum("weather__precipitation", default=0)),
        ]

    def __str__(self) -> str:
        return f"{self.faa} {self.name}"


class Flight(models.Model):
    """336,776 flights; some planes and destinations are not in the other tables."""

    airline = models.ForeignKey(Airline, models.CASCADE, related_name="flights")
    plane = models.ForeignKey(Plane, models.SET_NULL, null=True, related_name="flights")
    origin = models.ForeignKey(Airport, models.CASCADE, related_name="departures")
    destination = models.ForeignKey(Airport, models.SET_NULL, null=True, related_name="arrivals")
    number = models.IntegerField()
    scheduled_at = models.DateTimeField()
    dep_delay = models.IntegerField(null=True)
    air_time = models.IntegerField(null=True)
    distance = models.IntegerField()
    cancelled = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"{self.airline_id}{self.number} {self.scheduled_at:%Y-%m-%d}"


class Weather(models.Model):
    """Hourly weather at the three airports of New York."""

    airport = models.ForeignKey(Airport, models.CASCADE, related_name="weather")
    observed_at = models.DateTimeField()
    temperature = models.FloatField(null=True)
    precipitation = models.DecimalField(max_digits=6, decimal_places=2, null=True)

    def __str__(self) -> str:
        return f"{self.airport_id} {self.observed_at:%Y-%m-%d %H:00}"
