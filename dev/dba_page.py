"""Put the functions of the golden files into docs/for_dbas.md, between its markers: ``python -m dev.dba_page``.

``<!-- file.sql: tk_name_without_digest -->`` stands before the text of a function, ``<!-- end -->`` behind it.
"""

from __future__ import annotations

import re
from pathlib import Path

from trigger_kit.sql.text import fill_placeholders

__all__ = ["PAGE", "with_functions"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "for_dbas.md"
GOLDEN = ROOT / "tests" / "golden" / "sql"
_MARKED = re.compile(r"<!-- (\S+\.sql): (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def with_functions(text: str) -> str:
    """Return the page with the text of each function as the golden files have it."""
    return _MARKED.sub(lambda match: f"<!-- {match[1]}: {match[2]} -->\n{_function(*match.groups())}<!-- end -->", text)


def _function(file: str, name: str) -> str:
    """Return a function as a block of SQL, for the schema ``public``."""
    golden = (GOLDEN / file).read_text(encoding="utf-8")
    found = re.search(
        rf'CREATE OR REPLACE FUNCTION \{{:schema\}}\."~?{re.escape(name)}_[0-9a-f]{{6}}".*?\$\w+\$;', golden, re.DOTALL
    )
    if found is None:
        raise LookupError(f"{file} has no function {name}.")
    return f"```sql\n{fill_placeholders(found[0], _placed)}\n```\n"


def _placed(placeholder: str) -> str:
    """Return what a placeholder stands for in a schema like most."""
    known = {":schema": "public", ":search_path": "pg_catalog, public, pg_temp", ":schema_tag": "4c9184"}
    if placeholder.startswith(":regclass "):
        return f"'public.{placeholder.removeprefix(':regclass ')}'::regclass"
    return known.get(placeholder, f"public.{placeholder}")


if __name__ == "__main__":
    PAGE.write_text(with_functions(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
