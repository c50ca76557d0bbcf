"""The frozen template: a trigger's function and its DDL, as one text.

Migrations hold the text that this template gave when they were made, so old ones replay as they were. A change of
the template's output is a new version: makemigrations then offers one AlterRule per target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import pgtrigger.compiler
from django.db.migrations.serializer import BaseSerializer
from django.db.migrations.writer import MigrationWriter

from trigger_kit.sql.text import (
    SCHEMA,
    SCHEMA_TAG,
    digest,
    fill_placeholders,
    identifier,
    quote,
    table_placeholder,
    with_tag,
)

__all__ = ["TEMPLATE_VERSION", "Beside", "CompiledTrigger", "Sql", "comment_digest", "dollar_quotes", "render"]

TEMPLATE_VERSION = 1

# This is v1 of the template. Do NOT edit it once it is released: copy it to v2 and edit that.
TEMPLATE_V1 = """\
CREATE OR REPLACE FUNCTION {{:schema}}.{name}()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {{:search_path}}
SET row_security = off
AS {quotes}
{body}
{quotes};

{create} {name}
    {when} {operation} ON {table}
{clauses}    EXECUTE FUNCTION {{:schema}}.{name}();"""

CREATE = "CREATE OR REPLACE TRIGGER"
CREATE_CONSTRAINT = """\
DROP TRIGGER IF EXISTS {name} ON {table};

CREATE CONSTRAINT TRIGGER"""

_COMMENT = re.compile(r"^trigger_kit v(?P<version>\d+) (?P<digest>[0-9a-f]{40})$")


class Sql:
    """SQL text in a migration, written there as an indented block; indentation common to all lines is dropped."""

    def __init__(self, text: str) -> None:
        self.text = dedent(text).strip("\n")

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Sql) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Sql({self.text!r})"


class SqlSerializer(BaseSerializer):
    """Write an Sql as a raw block in triple quotes, or as one literal where a raw block cannot hold it."""

    def serialize(self) -> tuple[str, set[str]]:
        """Return the source text and the imports that it needs."""
        text = self.value.text
        if '"""' in text or text.endswith(("\\", '"')) or text != "\n".join(text.splitlines()):
            argument = repr(text)
        else:
            argument = f'r"""\n{text}\n"""' if "\\" in text else f'"""\n{text}\n"""'
        return f"trigger_kit.sql.Sql({argument})", {"import trigger_kit.sql"}


MigrationWriter.register_serializer(Sql, SqlSerializer)


class FrozenSql(pgtrigger.compiler.UpsertTriggerSql):
    """The installation text of one trigger, in place of pgtrigger's template.

    pgtrigger's text asks ``pgtrigger.ignore`` on every call, which costs 40 µs and lets ``ignore()`` switch
    maintenance off without a trace; it has no SECURITY DEFINER and no pinned search_path either.
    """

    def __init__(self, *, pgid: str, table: str, text: str) -> None:
        self.data = text
        self.pgid = pgid
        self.table = table
        self.hash = digest(text)
        self.kwargs = {"pgid": pgid, "table": table, "text": text}
        self.defaults = {}


class CompiledTrigger(pgtrigger.compiler.Trigger):
    """A trigger and its function as frozen text; tables stand in it as placeholders.

    ``name`` is the name of both, ``on`` the ``db_table`` that the trigger sits on, ``owner`` the ``db_table`` of the
    target that it serves, whose schema the function is created in. Where the text makes more than these, such as a
    table of pending changes, ``undo`` brings these to their targets and drops what another version makes anew, and
    ``drop`` the rest. ``sources`` are the tables whose writers use it. ``version`` is that of the template.
    """

    def __init__(
        self,
        *,
        name: str,
        on: str,
        owner: str,
        sql: Sql,
        undo: Sql | None = None,
        drop: Sql | None = None,
        sources: Sequence[str] = (),
        version: int = 1,
    ) -> None:
        super().__init__(name=name, sql=FrozenSql(pgid=name, table=on, text=sql.text))
        self.on = on
        self.owner = owner
        self.undo = undo
        self.drop = drop
        self.sources = tuple(sources)
        self.version = version

    @property
    def text(self) -> str:
        """The frozen text, placeholders and all."""
        return str(self.sql)

    @property
    def comment(self) -> str:
        """The COMMENT of the installed trigger: the template's version and the text's digest."""
        return f"trigger_kit v{self.version} {self.hash}"

    def render_install(self, resolve: Callable[[str], str]) -> str:
        """Return the SQL that installs the trigger, with placeholders resolved."""
        name, table = quote(str(self.name)), table_placeholder(self.on)
        text = f"{self.text}\n\nCOMMENT ON TRIGGER {name} ON {table}\n    IS '{self.comment}';"
        placed = f"\\1{identifier(self.placed_name(resolve))}"
        return re.sub(
            f"(TRIGGER (?:IF EXISTS )?){identifier(str(self.name))}", placed, fill_placeholders(text, resolve)
        )

    def placed_name(self, resolve: Callable[[str], str]) -> str:
        """Return the trigger's name in a database; the function's is always ``name``.

        On a table of another schema it tells whose it is: the same rules of many schemas may watch that table.
        """
        if resolve(self.on).startswith(f"{resolve(SCHEMA)}."):
            return str(self.name)
        return with_tag(str(self.name), resolve(SCHEMA_TAG))

    def render_undo(self, resolve: Callable[[str], str]) -> str:
        """Return the SQL that makes room for another version of what is beside the trigger, placeholders resolved."""
        return fill_placeholders(str(self.undo), resolve) if self.undo else ""

    def render_uninstall(
        self, resolve: Callable[[str], str], table: str | None = None, trigger: str | None = None
    ) -> str:
        """Return the SQL that drops the trigger and its function, with placeholders resolved.

        ``table`` is the SQL of the table that the trigger sits on now, where that has another name than then, and
        ``trigger`` the trigger's name there.
        """
        name, placed = identifier(str(self.name)), identifier(trigger or self.placed_name(resolve))
        drops = [
            self.render_undo(resolve),
            f"DROP TRIGGER IF EXISTS {placed} ON {table or resolve(self.on)};",
            f"DROP FUNCTION IF EXISTS {resolve(SCHEMA)}.{name}();",
            fill_placeholders(str(self.drop), resolve) if self.drop else "",
        ]
        return "\n".join(filter(None, drops))

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return what a migration writes."""
        kwargs: dict[str, Any] = {"name": self.name, "on": self.on, "owner": self.owner, "sql": Sql(self.text)}
        if self.undo is not None:
            kwargs |= {"undo": self.undo, "sources": list(self.sources)}
        if self.drop is not None:
            kwargs["drop"] = self.drop
        if self.version != 1:
            kwargs["version"] = self.version
        return "trigger_kit.sql.CompiledTrigger", [], kwargs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledTrigger) and self.deconstruct() == other.deconstruct()

    def __hash__(self) -> int:
        return hash((self.name, self.hash))

    def __repr__(self) -> str:
        return f"<CompiledTrigger {self.name} on {self.on}>"


@dataclass(frozen=True)
class Beside:
    """What a trigger's text makes before and after it, and how to undo that; ``drop`` is what another version replaces.

    ``sources`` are the tables whose writers use it.
    """

    before: str
    after: tuple[str, ...]
    undo: str
    drop: str
    sources: tuple[str, ...]


def comment_digest(comment: str | None) -> str | None:
    """Return the digest out of an installed trigger's COMMENT, or None where it is not one of ours."""
    match = _COMMENT.match(comment or "")
    return match["digest"] if match else None


def render(
    *,
    name: str,
    on: str,
    owner: str,
    body: str,
    when: object,
    operation: object,
    clauses: list[str],
    is_constraint: bool = False,
    beside: Beside | None = None,
) -> CompiledTrigger:
    """Fill the template. ``when`` and ``operation`` are pgtrigger's, ``clauses`` the lines up to EXECUTE.

    Constraint triggers can wait for the end of a transaction, and cannot be replaced.
    """
    text = TEMPLATE_V1.format(
        create=CREATE_CONSTRAINT.format(name=quote(name), table=table_placeholder(on)) if is_constraint else CREATE,
        name=quote(name),
        body=body,
        quotes=dollar_quotes(body),
        when=when,
        operation=operation,
        table=table_placeholder(on),
        clauses="".join(f"    {clause}\n" for clause in clauses),
    )
    if beside is None:
        return CompiledTrigger(name=name, on=on, owner=owner, sql=Sql(text), version=TEMPLATE_VERSION)
    whole = "\n\n".join([beside.before, text, *beside.after])
    return CompiledTrigger(
        name=name,
        on=on,
        owner=owner,
        sql=Sql(whole),
        undo=Sql(beside.undo),
        drop=Sql(beside.drop) if beside.drop else None,
        sources=beside.sources,
        version=TEMPLATE_VERSION,
    )


def dollar_quotes(body: str) -> str:
    """Return a dollar quote that the body does not contain."""
    tag = "trigger_kit"
    while f"${tag}$" in body:
        tag += "_"
    return f"${tag}$"
