"""Which system checks the code has, and which the tests name."""

from __future__ import annotations

import re
from pathlib import Path

import trigger_kit

PACKAGE = Path(trigger_kit.__file__).parent
REPOSITORY = PACKAGE.parent
TESTS = (
    "../integration/test_backfill.py",
    "../integration/test_blind_spots.py",
    "../integration/test_database_checks.py",
    "../integration/test_owners.py",
    "test_checks.py",
    "test_fitting.py",
    "test_orders.py",
    "test_refusals.py",
    "../migration/test_leaving.py",
    "../migration/test_order.py",
)


def ids_in_code() -> set[str]:
    """Return the ids that the code reports, for example ``{"E001", "W002"}``."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return set(re.findall(r'"(?:trigger_kit\.)?([EW]\d{3})"', text))


def ids_in_tests() -> set[str]:
    """Return the ids that tests are named after, as in ``test_e001_…``."""
    here = Path(__file__).parent
    text = "\n".join((here / name).read_text(encoding="utf-8") for name in TESTS)
    return {name.upper() for name in re.findall(r"^def test_([ew]\d{3})_", text, re.MULTILINE)}
