"""COMPILE, the noun: a function of ours, with what it takes, returns and sets, and its text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trigger_kit.sql.text import block, fill, identifier, literal, quote, text_literal

__all__ = ["PLANS", "Function", "call", "dollar_quotes", "text_array"]

# Settings under which a statement over arrays is planned once in a session, and goes by indexes. PostgreSQL takes a
# plan for any array to be dearer than one for this short array, and plans anew, which takes longer than the statement.
# For any array it expects ten values, for which it would read a small table from end to end.
PLANS = ("plan_cache_mode = force_generic_plan", "enable_seqscan = off")


@dataclass(frozen=True)
class Function:
    """A function in the schema of its target, as text in which tables stand as placeholders.

    ``arguments`` are pairs of name and type, ``settings`` what it sets while it runs. ``is_definer`` says that it runs
    with the rights of its owner, as trigger functions do; those that they call run with their rights. ``comment`` is
    its COMMENT, or empty.
    """

    name: str
    body: str
    arguments: tuple[tuple[str, str], ...] = ()
    returns: str = "trigger"
    settings: tuple[str, ...] = ()
    is_definer: bool = False
    language: str = "plpgsql"
    volatility: str = ""
    comment: str = ""

    @property
    def signature(self) -> str:
        """The name with the types of the arguments, as DROP and GRANT name the function."""
        return (
            f"{{:schema}}.{quote(self.name)}({', '.join(kind.partition(' DEFAULT ')[0] for _, kind in self.arguments)})"
        )

    @property
    def source(self) -> str:
        """What PostgreSQL keeps of the text: all between the dollar quotes."""
        return f"\n{self.body}\n"

    def create(self) -> str:
        """Return the statements that create the function, or replace it, for nobody but its owner."""
        quotes = dollar_quotes(self.body)
        listed = fill(f"{name} {kind}" for name, kind in self.arguments)
        listed = f"\n{block(listed)}\n" if "\n" in listed else listed
        lines = [
            f"CREATE OR REPLACE FUNCTION {{:schema}}.{quote(self.name)}({listed})",
            f"RETURNS {self.returns}",
            f"LANGUAGE {self.language}",
            *([self.volatility] if self.volatility else []),
            *(["SECURITY DEFINER"] if self.is_definer else []),
            *(f"SET {setting}" for setting in self.settings),
            f"AS {quotes}{self.source}{quotes};",
            f"REVOKE ALL ON FUNCTION {self.signature} FROM PUBLIC;",
        ]
        if self.comment:
            lines.append(f"COMMENT ON FUNCTION {self.signature} IS {text_literal(self.comment)};")
        return "\n".join(lines)


def call(name: str, *arguments: str) -> str:
    """Return the call of a function in the schema of the target; what does not fit on a line stands on more.

    Arguments have the declared types, NULL and texts too: another function of that name, which whoever may create
    functions in the schema has added, would else fit as well or better, and run as the owner of the caller.
    """
    listed = fill(arguments)
    if "\n" in listed:
        listed = f"\n{block(listed)}\n"
    return f"{{:schema}}.{identifier(name)}({listed})"


def text_array(values: Iterable[str]) -> str:
    """Return an array of texts, or NULL for none."""
    found = list(values)
    return f"{literal(found)}::text[]" if found else "NULL::text[]"


def dollar_quotes(body: str) -> str:
    """Return a dollar quote that the body does not contain."""
    tag = "trigger_kit"
    while f"${tag}$" in body:
        tag += "_"
    return f"${tag}$"
