"""Bundles: everything that is written for the user, and running it on this machine.

    assemble_bundle(program, target, model: ModelIdentity, options: Options) -> Bundle
    bundle.files, bundle.report, bundle.interface, bundle.object_bytes; bundle.save(folder)
    describe_interface(program, prefix, api) -> Interface        # sizes, inputs and outputs with offsets
    build_object(program, prefix, target, api) -> bytes
    print_bundle_c(program, interface, model, target_name) -> dict[str, bytes]
    inspect_object(data, *weights_sections) -> ObjectFacts       # sizes, calls, symbols, stack_bound(function)
    HostSession.from_object(object_bytes, interface, constant_weights=b"")
    HostSession.from_c(files, interface, constant_weights=b"")
    session.run(inputs: Sequence[bytes]) -> list[bytes]

`ModelIdentity(name, original_name, file, sha256)` names the model; `name` is the C prefix.
"""

from luciole.bundle.assemble import assemble_bundle
from luciole.bundle.bundle import Bundle
from luciole.bundle.check import ObjectFacts, inspect_object
from luciole.bundle.header import ModelIdentity, print_header
from luciole.bundle.host import HostSession
from luciole.bundle.interface import Interface, Tensor, describe_interface
from luciole.bundle.objects import build_object
from luciole.bundle.sources import print_bundle_c

__all__ = [
    "Bundle",
    "HostSession",
    "Interface",
    "ModelIdentity",
    "ObjectFacts",
    "Tensor",
    "assemble_bundle",
    "build_object",
    "describe_interface",
    "inspect_object",
    "print_bundle_c",
    "print_header",
]
