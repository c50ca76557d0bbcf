"""Customers and their orders. The number of orders is a rule."""

from __future__ import annotations

from django.db import models
from django.db.models import Count

from trigger_kit import Denormalize


class Customer(models.Model):
    """A customer knows how many orders there are."""

    name = models.CharField(max_length=80)
    num_orders = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_orders", Count("orders"))]

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """An order of a customer."""

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="orders")
    amount = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.customer_id}: {self.amount}"
