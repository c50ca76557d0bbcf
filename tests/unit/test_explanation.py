"""What ``plan`` says of rules that wait."""

from __future__ import annotations

import pytest
from django.db.models import Count

from tests.archive.models import Work
from trigger_kit import Denormalize, Timing
from trigger_kit.maintenance.explain import explain
from trigger_kit.plan.plan import plan

LOCK = "locks archive_work: the touched rows, FOR NO KEY UPDATE, in key order"


@pytest.mark.parametrize(
    ("timing", "strategy", "lock"),
    [
        (Timing.IMMEDIATE, "strategy: delta\n", f"{LOCK}\n"),
        (Timing.DEFERRED, "strategy: delta, once, when the writer commits\n", f"{LOCK}, at commit\n"),
        (Timing.QUEUED, "strategy: delta, appended to a queue, added by the next flush\n", None),
    ],
)
def test_plan_says_when_a_target_is_written(timing: Timing, strategy: str, lock: str | None) -> None:
    words = explain(plan(Work, [Denormalize("the_count", Count("reviews"), timing=timing)])) + "\n"
    assert strategy in words
    inserted = words.partition("after INSERT on archive_review")[2].partition("after ")[0]
    assert lock in inserted if lock else "locks" not in inserted
