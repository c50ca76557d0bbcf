"""The rows that were there before the rule: 3,000 pages and 60,000 views. (In real life, some hundred millions.)"""

from django.db import migrations

PAGES = "INSERT INTO pages_page (path) SELECT '/' || n FROM generate_series(1, 3000) AS n"
VIEWS = """
INSERT INTO pages_view (page_id)
SELECT first.id + n % 2000 FROM (SELECT min(id) AS id FROM pages_page) AS first, generate_series(1, 60000) AS n
"""


class Migration(migrations.Migration):
    dependencies = [("pages", "0001_initial")]
    operations = [
        migrations.RunSQL(PAGES, "DELETE FROM pages_page"),
        migrations.RunSQL(VIEWS, "DELETE FROM pages_view"),
    ]
