"""Which system checks the code has."""

from __future__ import annotations

import re
from pathlib import Path

import trigger_kit

PACKAGE = Path(trigger_kit.__file__).parent
REPOSITORY = PACKAGE.parent


def ids_in_code() -> set[str]:
    """Return the ids that the code reports, for example ``{"E001", "W002"}``."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return set(re.findall(r'"(?:trigger_kit\.)?([EW]\d{3})"', text))
