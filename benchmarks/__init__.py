"""Ratios against no trigger and a hand-written row trigger, measured side by side in one run."""
