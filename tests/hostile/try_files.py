"""Compiles model files, given by their mutations, as far as the plan of memory, in a process of limited memory.

    python try_files.py BASE MUTATIONS MEMORY_BYTES

MUTATIONS is a JSON list of mutations of the file BASE, each a list of edits: ["cut", length] or ["write", offset, hex].
For each, one line of JSON is printed before it is tried (so that a crash is blamed on the right one) and one with the
outcome: "compiled", the codes of a refusal, or the traceback of anything else.
"""

from __future__ import annotations

import json
import resource
import sys
import traceback
from pathlib import Path

from luciole.driver import lower_ordered, optimize
from luciole.errors import CompileError
from luciole.graph.verify import verify_graph
from luciole.importers import load_model
from luciole.ir.target import load_targets
from luciole.lower.lower import LoweringOptions
from luciole.lower.plan import plan_memory
from luciole.passes.manager import DeveloperOptions, PassContext


def mutate(data: bytes, edits: list[list[object]]) -> bytes:
    """`data` after some edits."""
    result = bytearray(data)
    for edit in edits:
        if edit[0] == "cut":
            del result[int(str(edit[1])) :]
        else:
            offset, new = int(str(edit[1])), bytes.fromhex(str(edit[2]))
            result[offset : offset + len(new)] = new
    return bytes(result)


def outcome(path: Path) -> str:
    """What compiling the file comes to."""
    try:
        graph = load_model(path)
        verify_graph(graph)
        optimize(graph, PassContext(DeveloperOptions(), sys.stderr.write))
        plan_memory(lower_ordered(graph, load_targets()["cortex-m4"], LoweringOptions()))
    except CompileError as error:
        if not error.diagnostics or not all(d.message for d in error.diagnostics) or error.exit_code not in (1, 2):
            return f"error without a text: {error!r}"
        return "refused: " + " ".join(d.code for d in error.diagnostics)
    except BaseException:
        return traceback.format_exc()
    return "compiled"


def main() -> None:
    """See the module."""
    base, mutations, memory_bytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    data = base.read_bytes()
    target = mutations.with_suffix(".tflite")
    for index, edits in enumerate(json.loads(mutations.read_text())):
        print(json.dumps({"trying": index}), flush=True)
        target.write_bytes(mutate(data, edits))
        print(json.dumps({"index": index, "outcome": outcome(target)}), flush=True)


if __name__ == "__main__":
    main()
