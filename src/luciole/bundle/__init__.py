"""Bundles: everything that is written for the user, and running it on this machine.

    assemble_bundle(program, target, model: ModelIdentity, options: Options) -> Bundle
    bundle.files, bundle.report, bundle.interface, bundle.object_bytes; bundle.save(folder)
    build_object(program, prefix, target) -> bytes
    describe_interface(program, prefix, api) -> Interface        # sizes, inputs and outputs with offsets
    print_header(interface, model, target_name) -> str
    HostSession.from_object(bundle.object_bytes, bundle.interface, bundle.constant_weights)
    HostSession.from_c(bundle.files, bundle.interface, bundle.constant_weights)
    session.run(inputs: Sequence[bytes]) -> list[bytes]

`ModelIdentity(name, original_name, file, sha256)` names the model; `name` is the C prefix.
"""

from luciole.bundle.assemble import assemble_bundle
from luciole.bundle.bundle import Bundle
from luciole.bundle.header import ModelIdentity, print_header
from luciole.bundle.host import HostSession
from luciole.bundle.interface import Interface, Tensor, describe_interface
from luciole.bundle.objects import build_object

__all__ = [
    "Bundle",
    "HostSession",
    "Interface",
    "ModelIdentity",
    "Tensor",
    "assemble_bundle",
    "build_object",
    "describe_interface",
    "print_header",
]
