"""The errors that trigger_kit raises.

::

    TriggerKitError
    ├── RuleError             a rule that cannot be kept exact; carries the id of its system check
    └── DriftError            a stored value differs from its expression (also an AssertionError)

A mistake in the shape of a declaration raises ``TypeError`` or ``ValueError`` at once, before any of these.
"""

from __future__ import annotations

__all__ = ["DriftError", "RuleError", "TriggerKitError"]


class TriggerKitError(Exception):
    """Something that trigger_kit cannot do; the base of all its errors."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class RuleError(TriggerKitError):
    """A rule cannot be kept exact.

    ``check_id`` is the id of the system check that reports it, ``hint`` the way out.
    """

    def __init__(self, check_id: str, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.check_id = check_id
        self.reason = message
        self.hint = hint


class DriftError(TriggerKitError, AssertionError):
    """A stored value differs from the value of its expression."""
