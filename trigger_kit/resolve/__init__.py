"""RESOLVE: what a rule reads."""
