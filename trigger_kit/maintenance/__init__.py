"""OPERATE: look after the rules of a database that is in use."""
