"""A data migration: SkyWest (OO) had 32 flights from New York; ExpressJet (EV) takes them over.

It uses historical models, for which no signal handler and no save() of the project runs.
"""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def merge(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    flight = apps.get_model("flights", "Flight")
    flight.objects.filter(airline_id="OO").update(airline_id="EV")
    late = list(flight.objects.filter(dep_delay__gt=600, cancelled=False))
    for row in late:
        row.cancelled = True
    flight.objects.bulk_update(late, ["cancelled"])


class Migration(migrations.Migration):
    dependencies = [("flights", "0002_rules")]
    operations = [migrations.RunPython(merge, migrations.RunPython.noop)]
