"""INSTALL: what a database has, and how it becomes what rules want."""
