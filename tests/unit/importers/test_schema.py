"""Our tables of the TFLite schema against the `tflite` package from PyPI."""

from __future__ import annotations

import contextlib
import re

import pytest

from luciole.importers.tflite import schema

tflite = pytest.importorskip("tflite", reason="the tflite package is not installed")


def enumeration(name: str) -> dict[str, int]:
    """Names and numbers of an enumeration of the package."""
    return {k: v for k, v in vars(getattr(tflite, name)).items() if isinstance(v, int)}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("BuiltinOperator", schema.OPERATORS),
        ("TensorType", schema.TENSOR_TYPES),
        ("ActivationFunctionType", schema.ENUMERATIONS["activation"]),
        ("Padding", schema.ENUMERATIONS["padding"]),
        ("MirrorPadMode", schema.ENUMERATIONS["mirror"]),
        ("FullyConnectedOptionsWeightsFormat", schema.ENUMERATIONS["weights_format"]),
    ],
)
def test_enumerations_have_the_numbers_of_the_package(name: str, ours: tuple[str, ...]) -> None:
    assert {name: number for number, name in enumerate(ours)} == enumeration(name)


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        ("Model", schema.ModelField),
        ("OperatorCode", schema.OperatorCodeField),
        ("SubGraph", schema.SubGraphField),
        ("Tensor", schema.TensorField),
        ("QuantizationParameters", schema.QuantizationField),
        ("Buffer", schema.BufferField),
        ("Operator", schema.OperatorField),
    ],
)
def test_tables_have_the_slots_of_the_package(table: str, fields: type) -> None:
    found = {name: slot for name, (slot, _, _) in slots(table).items()}
    assert {f.name.lower(): int(f) for f in fields} == {f.name.lower(): found[f.name.lower()] for f in fields}


def test_options_have_the_slots_kinds_and_defaults_of_the_package() -> None:
    unions = {number: name for name, number in enumeration("BuiltinOptions").items() if number}
    assert set(schema.OPTIONS) <= set(unions)
    for number, name in unions.items():
        declared = {}
        for slot, text in enumerate(schema.OPTIONS.get(number, "").split()):
            if text != "-":
                field, _, kind = text.partition(":")
                kind, _, default = kind.partition("=")
                stored = "i8" if kind in schema.ENUMERATIONS else kind
                declared[field] = (slot, stored, default or "0")
        assert declared == {field: found for field, found in slots(name).items()}, name


def slots(table: str) -> dict[str, tuple[int, str, str]]:
    """Field name -> (slot, kind, default), found out by calling the package's accessors on a recorder."""
    cls = getattr(tflite, table)
    found = {}
    for name in vars(cls):
        if (
            name.startswith("_")
            or name == "Init"
            or re.search("GetRootAs|HasIdentifier|AsNumpy$|Length$|IsNone$", name)
        ):
            continue
        is_vector = getattr(cls, name).__code__.co_argcount == 2
        recorder, instance = _Recorder(), cls()
        instance._tab = recorder
        default = getattr(instance, name)(*([0] if is_vector else []))
        recorder.is_present = True
        with contextlib.suppress(AttributeError, TypeError):  # tables within tables, whose kind does not matter here
            getattr(instance, name)(*([0] if is_vector else []))
        slot = (recorder.entries[0] - 4) // 2
        found[_snake(name)] = (slot, recorder.kind + "[]" * is_vector, str(default) if default else "0")
    return found


class _Recorder:
    """Stands for a FlatBuffers table, with all fields or none, and remembers what was asked for."""

    Pos = 0

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.kind = ""
        self.is_present = False

    def Offset(self, entry: int) -> int:
        self.entries.append(entry)
        return int(self.is_present)

    def Vector(self, offset: int) -> int:
        return offset

    def String(self, offset: int) -> str:
        self.kind = "string"
        return ""

    def Get(self, flags: type, offset: int) -> int:
        name = flags.__name__.removesuffix("Flags").lower()
        self.kind = name.replace("uint", "u").replace("int", "i").replace("float", "f")
        return 0


def _snake(name: str) -> str:
    parted = re.sub(r"([DWH])Factor", r"\1_Factor", name)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", parted).lower()
