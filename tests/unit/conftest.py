"""Fixtures of the tests that declare models of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.apps.registry import Apps
from django.test.utils import isolate_apps


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Apps]:
    """An app registry of this test's own, which the checks read in place of the live one."""
    with isolate_apps("tests.library") as apps:
        monkeypatch.setattr("trigger_kit.checks.rules.live_apps", apps)
        yield apps
