"""What is found in objects, and that the stack they state is what they use."""

from __future__ import annotations

import pytest

from luciole.bundle import ObjectFacts, build_object, describe_interface, inspect_object
from luciole.bundle.assemble import check_promises
from luciole.bundle.elf import without_unwind_tables
from luciole.bundle.report import stack_bytes
from luciole.emit.native import LlvmModule, compile_object
from luciole.emulate.bundle import UnicornBundle
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.errors import InternalError
from luciole.ir.target import find_target
from unit.bundle.graphs import chain, program_of

TREE = """
@table = hidden constant [4 x i32] [i32 10, i32 20, i32 30, i32 40], section ".rodata.table"
define void @leaf(ptr %p) nounwind noinline section ".text.leaf" {
  %a = alloca [32 x i32]
  store volatile i32 1, ptr %a
  ret void
}
define void @middle(ptr %p) nounwind noinline section ".text.middle" {
  %a = alloca [8 x i32]
  store volatile i32 1, ptr %a
  call void @leaf(ptr %a)
  store volatile i32 1, ptr %a
  ret void
}
define void @top(ptr %p) nounwind section ".text.top" {
  call void @leaf(ptr %p)
  call void @middle(ptr %p)
  store volatile i32 1, ptr %p
  ret void
}
"""

LOOP = """
define i32 @even(i32 %n) nounwind noinline section ".text.even" {
  %z = icmp eq i32 %n, 0
  br i1 %z, label %yes, label %more
yes:
  ret i32 1
more:
  %m = sub i32 %n, 1
  %r = call i32 @odd(i32 %m)
  %s = add i32 %r, 1
  ret i32 %s
}
define i32 @odd(i32 %n) nounwind noinline section ".text.odd" {
  %r = call i32 @even(i32 %n)
  %s = xor i32 %r, 1
  ret i32 %s
}
"""

OUTSIDE = """
@counter = hidden global i32 7
declare void @elsewhere()
define void @calls_out() nounwind { call void @elsewhere() store i32 1, ptr @counter ret void }
define void @calls_through(ptr %p) nounwind { call void %p() store i32 1, ptr @counter ret void }
"""

CORES = ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc", "rv64gc", "cortex-a53"]


def facts_of(text: str, target: str, weights_section: str = "") -> ObjectFacts:
    data = compile_object([LlvmModule(text, optimize=False)], find_target(target))
    return inspect_object(without_unwind_tables(data), weights_section)


@pytest.mark.parametrize("target", CORES)
def test_the_stack_of_a_tree_of_calls_is_that_of_its_deepest_branch(target: str) -> None:
    facts = facts_of(TREE, target)
    assert facts.functions["top"].calls == ("leaf", "middle")
    frames = {name: f.frame_bytes for name, f in facts.functions.items()}
    assert 128 <= frames["leaf"] <= 160
    assert 32 <= frames["middle"] <= 64
    assert facts.stack_bound("top") == frames["top"] + frames["middle"] + frames["leaf"]
    assert facts.stack_bound("leaf") == frames["leaf"]
    assert facts.cycles() == ()


def test_sizes_are_told_apart() -> None:
    facts = facts_of(TREE, "cortex-m4")
    assert (facts.rodata_bytes, facts.weights_bytes, facts.writable_bytes) == (16, 0, 0)
    assert facts.code_bytes >= sum(f.code_bytes for f in facts.functions.values()) > 0
    facts = facts_of(TREE, "cortex-m4", ".rodata.table")
    assert (facts.rodata_bytes, facts.weights_bytes) == (0, 16)


@pytest.mark.parametrize("target", [*CORES, "x86-64"])
def test_recursion_is_found(target: str) -> None:
    facts = facts_of(LOOP, target)
    assert facts.cycles() == (("even", "odd", "even"), ("odd", "even", "odd"))
    assert facts.stack_bound("even") is None
    with pytest.raises(InternalError, match="the object is recursive: even -> odd -> even"):
        check_promises(facts)


@pytest.mark.parametrize("target", CORES)
def test_what_is_called_outside_has_no_bound(target: str) -> None:
    facts = facts_of(OUTSIDE, target)
    assert facts.undefined == ("elsewhere",)
    assert facts.stack_bound("calls_out") is None
    assert facts.functions["calls_through"].has_indirect_call
    assert facts.stack_bound("calls_through") is None
    assert facts.writable_bytes == 4
    with pytest.raises(InternalError, match="4 bytes of writable data"):
        check_promises(facts)


def test_a_long_jump_inside_of_a_function_is_no_call() -> None:
    # A call makes the distances within the function unknown to the assembler, so that jumps carry relocations too.
    work = "\n".join(f"  store volatile i32 {i}, ptr %p" for i in range(1200))
    text = f"""
define void @leaf(ptr %p) nounwind noinline section ".text.leaf" {{
  ret void
}}
define void @spin(ptr %p) nounwind section ".text.spin" {{
entry:
  br label %loop
loop:
  call void @leaf(ptr %p)
{work}
  call void @leaf(ptr %p)
  %v = load volatile i32, ptr %p
  %c = icmp eq i32 %v, 0
  br i1 %c, label %loop, label %exit
exit:
  ret void
}}
"""
    facts = facts_of(text, "rv32imc")
    assert facts.functions["spin"].code_bytes > 4096  # what a conditional branch reaches
    assert facts.functions["spin"].calls == ("leaf",)
    assert facts.stack_bound("spin") == facts.functions["spin"].frame_bytes
    assert facts.cycles() == ()


def test_no_stack_is_stated_for_instruction_sets_that_are_not_read() -> None:
    assert facts_of(TREE, "x86-64").stack_bound("leaf") is None


@pytest.mark.parametrize("target", CORES)
def test_a_bundle_states_a_stack_that_is_true(target: str) -> None:
    program = program_of(chain(), target)
    data = build_object(program, "toy", find_target(target))
    facts = inspect_object(data, ".rodata.toy_weights")
    interface = describe_interface(program, "toy")
    assert facts.writable_bytes == 0 and facts.cycles() == ()
    assert facts.weights_bytes == program.weights.size_bytes
    if facts.undefined:
        pytest.skip(f"calls {', '.join(facts.undefined)}, whose stack nobody knows")
    slots = [tuple(Slot(t.offset, t.size_bytes) for t in ts) for ts in (interface.inputs, interface.outputs)]
    sizes = BundleInterface("toy", interface.arena_bytes, interface.arena_alignment, slots[0], slots[1])
    bundle = UnicornBundle(data, find_core(target), sizes)
    measured = bundle.run([bytes(t.size_bytes) for t in interface.inputs], measure=True).stack_bytes
    bound = facts.stack_bound("toy_run")
    assert bound is not None and stack_bytes(facts, interface) == bound
    assert measured <= bound <= 1.25 * measured + 64
