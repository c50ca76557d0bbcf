"""PLAN: how a rule is kept."""
