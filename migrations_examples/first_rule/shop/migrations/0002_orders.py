"""The rows that were there before the rule: three customers, one without orders."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

AMOUNTS = {"Ada": ["10.00", "12.50", "7.20"], "Bob": ["99.00"], "Eve": []}


def add_orders(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    customer, order = apps.get_model("shop", "Customer"), apps.get_model("shop", "Order")
    for name, amounts in AMOUNTS.items():
        owner = customer.objects.create(name=name)
        order.objects.bulk_create(order(customer=owner, amount=amount) for amount in amounts)


def remove_orders(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("shop", "Customer").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(add_orders, remove_orders)]
