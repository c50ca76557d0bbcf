"""StringAgg as every supported version of Django has it: from 6.0 on it is Django's own and takes an expression."""

from __future__ import annotations

from typing import Any

import django
from django.contrib.postgres import aggregates as postgres
from django.db import models


def StringAgg(expression: Any, delimiter: str | models.Value, **kwargs: Any) -> Any:
    text = delimiter.value if isinstance(delimiter, models.Value) else delimiter
    if django.VERSION >= (6, 0):
        return models.StringAgg(expression, models.Value(text), **kwargs)
    return postgres.StringAgg(expression, text, **kwargs)
