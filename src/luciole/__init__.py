"""Luciole: an ahead-of-time neural-network compiler.

bundle = luciole.compile("kws.tflite", target="cortex-m7")
bundle.save("build/")
session = luciole.load("kws.tflite")
y = session.run({"input": x})["output"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luciole.version import __version__

if TYPE_CHECKING:
    from luciole.bundle import Bundle
    from luciole.errors import CompileError, InternalError, LucioleError, ToolError
    from luciole.ir.target import Target
    from luciole.options import Options
    from luciole.quantized import QuantizedModel, quantize_model
    from luciole.session import Session, compile, load

__all__ = [
    "Bundle",
    "CompileError",
    "InternalError",
    "LucioleError",
    "Options",
    "QuantizedModel",
    "Session",
    "Target",
    "ToolError",
    "__version__",
    "compile",
    "load",
    "quantize_model",
]

#: Where each public name lives; they are imported when first used, so that `import luciole` is quick.
_HOMES = {
    "Bundle": "luciole.bundle",
    "CompileError": "luciole.errors",
    "InternalError": "luciole.errors",
    "LucioleError": "luciole.errors",
    "ToolError": "luciole.errors",
    "Target": "luciole.ir.target",
    "Options": "luciole.options",
    "Session": "luciole.session",
    "compile": "luciole.session",
    "load": "luciole.session",
    "QuantizedModel": "luciole.quantized",
    "quantize_model": "luciole.quantized",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module luciole has no attribute {name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
