"""From a planned program to a bundle: print, compile, inspect, report."""

from __future__ import annotations

from luciole.bundle.bundle import Bundle
from luciole.bundle.header import ModelIdentity, print_header
from luciole.bundle.interface import describe_interface
from luciole.bundle.objects import build_object
from luciole.bundle.report import make_report
from luciole.ir.target import Target
from luciole.options import Options
from luciole.program.core import Program
from luciole.report.html import render_html
from luciole.report.model import LinkReport


def assemble_bundle(program: Program, target: Target, model: ModelIdentity, options: Options) -> Bundle:
    """The bundle of a planned program."""
    interface = describe_interface(program, model.name, options.bundle_api)
    object_bytes = build_object(program, model.name, target)
    files = {
        f"{model.name}.h": print_header(interface, model, target.name).encode("ascii"),
        f"{model.name}.o": object_bytes,
    }
    report = make_report(program, target, model, interface, LinkReport(tuple(files), ()))
    files[f"{model.name}.report.json"] = report.to_json().encode("ascii")
    files[f"{model.name}.report.html"] = render_html(report).encode("utf-8")
    return Bundle(model.name, files, report, interface, object_bytes)
