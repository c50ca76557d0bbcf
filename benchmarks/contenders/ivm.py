"""pg_ivm: an extension that keeps a materialized view up to date with every statement, where the server has it."""

from __future__ import annotations

from benchmarks.contenders.base import Contender
from benchmarks.ground import Place

VIEW = "totals_ivm"
DEFINITION = (
    "SELECT author_id, count(*) AS num_books, sum(pages) AS pages_total FROM bench_books_book GROUP BY author_id"
)


def missing(place: Place) -> str:
    """Say that the server does not have the extension."""
    is_there = place.value("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_ivm')")
    return "" if is_there else "not on this server"


def install(place: Place) -> None:
    """Load the library, in this session and in later ones, and make the view with its index."""
    name = place.value("SELECT quote_ident(current_database())")
    place.run(f"ALTER DATABASE {name} SET session_preload_libraries = 'pg_ivm'")
    place.run("LOAD 'pg_ivm'")
    place.run("CREATE EXTENSION pg_ivm")
    place.run(f"SELECT pgivm.create_immv('{VIEW}', '{DEFINITION}')")


IVM = Contender(
    "pg_ivm",
    install,
    missing=missing,
    stored=f"SELECT author_id, num_books, pages_total FROM {VIEW}",
    refill=f"SELECT pgivm.refresh_immv('{VIEW}', true)",
    tidy=f"VACUUM ANALYZE {VIEW}",
)
