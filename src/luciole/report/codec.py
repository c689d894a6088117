"""Frozen dataclasses to JSON text and back: a small strict codec for the report.

Understood field types: `int`, `float`, `str`, `bool`, tuples of one type, dataclasses, unions of these with `None`,
and `Pairs`.
"""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

#: A value that an option or another free-form fact may have.
Scalar = bool | int | float | str | None

#: An ordered mapping as a hashable value; a JSON object in the text.
Pairs = tuple[tuple[str, Scalar], ...]

Instance = TypeVar("Instance")


def encode(value: object) -> object:
    """`value` as dictionaries, lists and scalars, keys in the order of the fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: dict(item) if hints[name] == Pairs else encode(item) for name, item in fields}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def dump(document: dict[str, object]) -> str:
    """`document` as ASCII JSON: one line a key, one line an element of a list of objects, a newline at the end.

    Raises `ValueError` for a float that is not finite.
    """
    entries = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = "[\n" + ",\n".join("    " + _one_line(item) for item in value) + "\n  ]"
        else:
            body = _one_line(value)
        entries.append(f"  {_one_line(key)}: {body}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def parse(text: str) -> object:
    """The value of a JSON text. Raises `ValueError` for what is not JSON, repeats a key, or nests without end."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object_of_unique_keys)
    except RecursionError:
        raise ValueError("values are nested too deeply") from None


def decode(kind: type[Instance], value: object, where: str) -> Instance:
    """An instance of the dataclass `kind` from an encoded `value`; `where` names the value in errors.

    Keys that `kind` does not know are ignored, and missing ones take the field's default: an older or newer writer of
    the same schema version may leave out or add some. Raises `ValueError` with the path of what is missing or of the
    wrong type.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_describe(value)}, not an object")
    hints = get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # a TypeVar cannot be bound to "any dataclass"
        if field.name in value:
            arguments[field.name] = _decode(hints[field.name], value[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} has no key {json.dumps(field.name)}")
    return kind(**arguments)


def _decode(hint: Any, value: object, where: str) -> object:
    """`value` as the type `hint`."""
    if hint == Pairs:
        return _decode_pairs(value, where)
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (option for option in get_args(hint) if option is not type(None))
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is {_describe(value)}, not a list")
        element = get_args(hint)[0]
        return tuple(_decode(element, item, f"{where}[{index}]") for index, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return decode(hint, value, where)  # type: ignore[arg-type]  # hints hold classes, never instances
    return _decode_scalar(hint, value, where)


def _decode_scalar(hint: type, value: object, where: str) -> object:
    """`value` as an `int`, `float`, `str` or `bool`; JSON's `1` is a float where a float is due."""
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"{where} is {_describe(value)}, not {_ARTICLES[hint]}")
    return value


def _decode_pairs(value: object, where: str) -> Pairs:
    """A JSON object with scalar values as pairs."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_describe(value)}, not an object")
    for key, item in value.items():
        if isinstance(item, (dict, list)):
            raise ValueError(f"{where}.{key} is {_describe(item)}, not a scalar")
    return tuple(value.items())


def _one_line(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _object_of_unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {json.dumps(key)} appears twice in one object")
        result[key] = value
    return result


def _describe(value: object) -> str:
    """The JSON name of the kind of `value`, with an article."""
    if value is None:
        return "null"
    return _ARTICLES.get(type(value), "a value")


_ARTICLES: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}
