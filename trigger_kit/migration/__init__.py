"""MIGRATE: rules in migrations."""
