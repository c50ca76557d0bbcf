"""MIGRATE: the models of a state that rules read, rendered afresh.

``state.apps`` shares classes with other states, and holds the whole project. Rules are compiled against classes of
their own: the models on their paths, and of those that foreign keys lead to from there only the key. So a change
elsewhere in the project is none of theirs, which the fingerprint tells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.apps.registry import Apps
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.utils import resolve_relation
from django.db.models import Field, Model
from django.db.models.fields.related import ManyToManyField

from trigger_kit.migration.relations import CrossedRelation, add_relations
from trigger_kit.migration.states import ModelKey, StateRule, all_models, all_rules, names_of
from trigger_kit.notation import canonical

__all__ = ["Reading", "reading"]

# What else a model has does not concern what its rows are.
OPTIONS = (
    "constraints",
    "db_table",
    "default_related_name",
    "managed",
    "order_with_respect_to",
    "proxy",
    "swappable",
    "unique_together",
)


# The texts of the last readings: those of the states that follow each other in a migration are mostly the same.
KEPT = 8
_texts: OrderedDict[Hashable, str] = OrderedDict()


@dataclass(frozen=True, eq=False)
class Reading:
    """The models that some rules read, as a state has them, and what tells them from others."""

    models: dict[ModelKey, ModelState]
    relations: tuple[CrossedRelation, ...]

    def render(self) -> Apps:
        """Return the models as classes of their own."""
        # A state renders what it is given: its fields are cloned, so that nothing is shared.
        states = {key: _bare(model_state) for key, model_state in self.models.items()}
        apps = ProjectState(states).apps
        add_relations(apps, self.relations)
        return apps

    def copied(self) -> Reading:
        """Return this with fields of its own: Django changes those of a state in place when it renames."""
        copies = {
            key: ModelState(
                state.app_label,
                state.name,
                {name: field.clone() for name, field in state.fields.items()},
                dict(state.options),
                state.bases,
            )
            for key, state in self.models.items()
        }
        return Reading(copies, self.relations)

    @property
    def text(self) -> str:
        """What is equal where two readings are, though they were made of other objects: of a state, and of models."""
        key = self.fingerprint
        if key not in _texts:
            _texts[key] = self._write()
            while len(_texts) > KEPT:
                _texts.popitem(last=False)
        return _texts[key]

    def _write(self) -> str:
        lines = [
            f"{'.'.join(key)} {state.name} {list(map(str, state.bases))} {_options_text(state)} "
            + " ".join(f"{name}={canonical(field)}" for name, field in sorted(state.fields.items()))
            for key, state in sorted(self.models.items(), key=lambda item: item[0])
        ]
        return "\n".join([*lines, repr(self.relations)])

    @cached_property
    def fingerprint(self) -> Hashable:
        """What is equal where two readings are."""
        return tuple(sorted((key, _print_of(state)) for key, state in self.models.items())), self.relations


def reading(
    state: ProjectState, extra: Iterable[str] = (), rules: dict[ModelKey, tuple[StateRule, ...]] | None = None
) -> Reading:
    """Return the models that the rules of a state read; ``extra`` are names that their paths may have besides."""
    found = all_rules(state) if rules is None else rules
    models = all_models(state)
    names = names_of(found) | frozenset(extra)
    relations = dict.fromkeys(relation for group in found.values() for item in group for relation in item.relations)
    labels = [*found, *(_key(label) for item in relations for label in (item.model, item.to)), *_labels(names, models)]
    read = _Closure(models, names).of(labels)
    return Reading(read, tuple(relations))


def _labels(names: Iterable[str], models: dict[ModelKey, ModelState]) -> Iterator[ModelKey]:
    """Yield the models whose labels are among the names, for querysets over them."""
    by_label = {".".join(key): key for key in models}
    for name in names:
        if name.lower() in by_label:
            yield by_label[name.lower()]


def _key(label: str) -> ModelKey:
    app_label, _, name = label.lower().partition(".")
    return app_label, name


class _Closure:
    """Which models paths of some names may lead to, from some others; of the rest, what foreign keys point at."""

    def __init__(self, models: dict[ModelKey, ModelState], names: frozenset[str]) -> None:
        self.models = models
        self.names = names
        self.pointing: dict[ModelKey, list[tuple[ModelKey, str, Any]]] = {}
        for key, model_state in models.items():
            for name, field in model_state.fields.items():
                if field.is_relation and field.remote_field:
                    for target in _targets(field, key):
                        self.pointing.setdefault(target, []).append((key, name, field))
        for key, model_state in models.items():
            # Relations to a proxy are relations to its model, and those to a parent are its children's too.
            for base in _bases(model_state):
                self.pointing.setdefault(base, []).extend(self.pointing.get(key, ()))

    def of(self, start: Iterable[ModelKey]) -> dict[ModelKey, ModelState]:
        """Return the states of all models that are concerned: cut down to what rows are found by."""
        members = self._members(start)
        cut = {key: self._member(key, members) for key in members}
        waiting = [target for state in cut.values() for field in state.fields.values() for target in _all(field, state)]
        while waiting:
            key = waiting.pop()
            if key in self.models and key not in cut:
                cut[key] = _stub(self.models[key])
                waiting += [t for field in cut[key].fields.values() for t in _all(field, cut[key])]
        return cut

    def _members(self, start: Iterable[ModelKey]) -> set[ModelKey]:
        members: set[ModelKey] = set()
        waiting = [key for key in start if key in self.models]
        while waiting:
            key = waiting.pop()
            if key in members or key not in self.models:
                continue
            members.add(key)
            state = self.models[key]
            waiting += _bases(state)
            for name, field in state.fields.items():
                if field.is_relation and field.remote_field and self._is_named(name):
                    waiting += _targets(field, key)
            for owner, _, field in self.pointing.get(key, ()):
                if _query_name(field, owner, self.models[owner]) in self.names:
                    waiting.append(owner)
                    waiting += _targets(field, owner)
        return members

    def _is_named(self, name: str) -> bool:
        return name in self.names or f"{name}_id" in self.names

    def _member(self, key: ModelKey, members: set[ModelKey]) -> ModelState:
        """Return a model without the many-to-many fields that no path leads over, and what points nowhere yet.

        A state may be without a model that another one points at, such as the user model of a project that has no
        migrations of it yet.
        """
        state = self.models[key]
        fields = {
            name: field
            for name, field in state.fields.items()
            if set(_all(field, state)) <= (members if isinstance(field, ManyToManyField) else self.models.keys())
        }
        return ModelState(state.app_label, state.name, fields, _options(state), state.bases)


def _all(field: Any, state: ModelState) -> list[ModelKey]:
    is_relation = field.is_relation and field.remote_field
    return _targets(field, (state.app_label, state.name_lower)) if is_relation else []


def _targets(field: Any, key: ModelKey) -> list[ModelKey]:
    """Return the model that a field leads to, and that of the rows between them."""
    models = [field.remote_field.model, getattr(field.remote_field, "through", None)]
    return [_key_of(model, key) for model in models if model is not None]


def _key_of(model: Any, key: ModelKey) -> ModelKey:
    found = resolve_relation(model, *key)
    return str(found[0]), str(found[1])


def _bases(state: ModelState) -> list[ModelKey]:
    """Return the models that a model inherits from, in tables of their own."""
    labels = [base for base in state.bases if isinstance(base, str)]
    models = [base for base in state.bases if not isinstance(base, str) and issubclass(base, Model)]
    labels += [base._meta.label_lower for base in models if base is not Model and not base._meta.abstract]
    return [_key(label) for label in labels]


def _query_name(field: Any, owner: ModelKey, state: ModelState) -> str:
    """Return the name by which paths lead back over a field."""
    remote = field.remote_field
    name = remote.related_query_name or remote.related_name or state.options.get("default_related_name") or owner[1]
    return str(name) % {"class": owner[1], "model_name": owner[1], "app_label": owner[0]}


def _stub(state: ModelState) -> ModelState:
    """Return a model with the columns that foreign keys may point at."""
    fields = {
        name: field
        for name, field in state.fields.items()
        if field.primary_key or (field.unique and not field.is_relation) or _is_key_part(name, state)
    }
    options = {name: value for name, value in _options(state).items() if name in {"db_table", "managed", "swappable"}}
    return ModelState(state.app_label, state.name, fields, options)


def _is_key_part(name: str, state: ModelState) -> bool:
    keys = (getattr(field, "field_names", ()) for field in state.fields.values() if field.primary_key)
    return any(name in key for key in keys)


def _options(state: ModelState) -> dict[str, Any]:
    return {name: state.options[name] for name in OPTIONS if name in state.options}


def _bare(state: ModelState) -> ModelState:
    """Return a copy whose options may be completed."""
    return ModelState(state.app_label, state.name, state.fields, dict(state.options), state.bases)


def _options_text(state: ModelState) -> str:
    return repr(sorted((name, repr(value)) for name, value in state.options.items() if value))


def _print_of(state: ModelState) -> Hashable:
    fields = tuple((name, field, _relation_of(field)) for name, field in state.fields.items())
    options = tuple(sorted((name, repr(value)) for name, value in state.options.items() if value))
    return state.name, _Fields(fields), options, tuple(map(str, state.bases))


@dataclass(frozen=True)
class _Fields:
    """Fields of a state, equal where they are the same objects and point at the same rows."""

    fields: tuple[tuple[str, Field[Any, Any], Hashable], ...]

    def __lt__(self, other: _Fields) -> bool:
        return False


def _relation_of(field: Any) -> Hashable:
    """Return what Django changes in the field itself where the model that it points at is renamed."""
    if not field.is_relation or not field.remote_field:
        return tuple(getattr(field, "field_names", ()))
    remote = field.remote_field
    return str(remote.model), getattr(remote, "field_name", None), tuple(getattr(field, "to_fields", None) or ())
