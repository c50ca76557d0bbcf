"""Customers whose orders are counted."""
