"""The subcommands of ``manage.py trigger_kit``, one module each: its arguments, and what it prints."""
