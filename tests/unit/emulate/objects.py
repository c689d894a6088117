"""Small objects for the tests of the emulators, made from LLVM assembly for each core."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm

from luciole.emulate.interface import BundleInterface, Slot

#: Triple, CPU and features by the name of the core.
TARGETS = {
    "cortex-m0plus": ("thumbv6m-none-eabi", "cortex-m0plus", ""),
    "cortex-m23": ("thumbv8m.base-none-eabi", "cortex-m23", ""),
    "cortex-m3": ("thumbv7m-none-eabi", "cortex-m3", ""),
    "cortex-m4": ("thumbv7em-none-eabi", "cortex-m4", ""),
    "cortex-m7": ("thumbv7em-none-eabi", "cortex-m7", ""),
    "cortex-m33": ("thumbv8m.main-none-eabi", "cortex-m33", ""),
    "cortex-m55": ("thumbv8.1m.main-none-eabi", "cortex-m55", ""),
    "cortex-m85": ("thumbv8.1m.main-none-eabi", "cortex-m85", ""),
    "rv32imc": ("riscv32-unknown-elf", "generic-rv32", "+m,+c"),
    "rv32imafc": ("riscv32-unknown-elf", "generic-rv32", "+m,+a,+f,+c"),
    "rv32imc-zve32x": ("riscv32-unknown-elf", "generic-rv32", "+m,+c,+zve32x,+zvl128b"),
    "rv64gc": ("riscv64-unknown-elf", "generic-rv64", "+m,+a,+f,+d,+c"),
    "rv64gcv": ("riscv64-unknown-elf", "generic-rv64", "+m,+a,+f,+d,+c,+v"),
    "cortex-a53": ("aarch64-none-elf", "cortex-a53", ""),
    "cortex-a72": ("aarch64-none-elf", "cortex-a72", ""),
}


@cache
def make_object(core: str, text: str, *, code_model: str = "default", relocation: str = "default") -> bytes:
    """The object that LLVM makes of `text` for `core`; `SIZE` in the text stands for the type of a size."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, cpu, features = TARGETS[core]
    size = "i64" if triple.startswith(("riscv64", "aarch64")) else "i32"
    module = llvm.parse_assembly(f'target triple = "{triple}"\n' + text.replace("SIZE", size))
    module.verify()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=cpu, features=features, reloc=relocation, codemodel=code_model)
    return machine.emit_object(module)


#: A table, a function that reads it, and one that calls that function in a loop; both functions in sections of their
#: own.
TABLE = """
@table = private unnamed_addr constant [4 x i32] [i32 10, i32 20, i32 30, i32 40]
define i32 @lookup(i32 %i) nounwind noinline section ".text.lookup" {
  %p = getelementptr [4 x i32], ptr @table, i32 0, i32 %i
  %v = load i32, ptr %p
  ret i32 %v
}
define i32 @total(ptr %a, i32 %n) nounwind section ".text.total" {
entry:
  br label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %i1, %loop ]
  %s = phi i32 [ 0, %entry ], [ %s1, %loop ]
  %p = getelementptr i32, ptr %a, i32 %i
  %v = load volatile i32, ptr %p
  %m = and i32 %v, 3
  %w = call i32 @lookup(i32 %m)
  %s1 = add i32 %s, %w
  %i1 = add i32 %i, 1
  %c = icmp ult i32 %i1, %n
  br i1 %c, label %loop, label %exit
exit:
  ret i32 %s1
}
"""

#: A whole bundle "toy": 512 inputs; `square` twice and `shift` once, of which the run function is made.
TOY = """
define internal void @toy_square(ptr %in, ptr %out) nounwind noinline section ".text.toy_square" {
entry:
  br label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %i1, %loop ]
  %p = getelementptr i8, ptr %in, i32 %i
  %v = load volatile i8, ptr %p
  %w = mul i8 %v, %v
  %q = getelementptr i8, ptr %out, i32 %i
  store volatile i8 %w, ptr %q
  %i1 = add i32 %i, 1
  %c = icmp ult i32 %i1, 512
  br i1 %c, label %loop, label %exit
exit:
  ret void
}
define internal void @toy_shift(ptr %in, ptr %out) nounwind noinline section ".text.toy_shift" {
entry:
  %scratch = alloca [128 x i8]
  br label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %i1, %loop ]
  %p = getelementptr i8, ptr %in, i32 %i
  %v = load volatile i8, ptr %p
  %m = and i32 %i, 127
  %s = getelementptr i8, ptr %scratch, i32 %m
  store volatile i8 %v, ptr %s
  %u = load volatile i8, ptr %s
  %w = add i8 %u, 3
  %x = xor i8 %w, 85
  %q = getelementptr i8, ptr %out, i32 %i
  store volatile i8 %x, ptr %q
  %i1 = add i32 %i, 1
  %c = icmp ult i32 %i1, 512
  br i1 %c, label %loop, label %exit
exit:
  ret void
}
define i32 @toy_init(ptr %model, ptr %arena, SIZE %size) nounwind {
  store ptr %arena, ptr %model
  %small = icmp ult SIZE %size, 1024
  %status = zext i1 %small to i32
  ret i32 %status
}
define ptr @toy_input(ptr %model) nounwind {
  %arena = load ptr, ptr %model
  ret ptr %arena
}
define ptr @toy_output(ptr %model) nounwind {
  %arena = load ptr, ptr %model
  %p = getelementptr i8, ptr %arena, i32 512
  ret ptr %p
}
define i32 @toy_run(ptr %model) nounwind section ".text.toy_run" {
  %in = load ptr, ptr %model
  %out = getelementptr i8, ptr %in, i32 512
  call void @toy_square(ptr %in, ptr %out)
  call void @toy_shift(ptr %out, ptr %in)
  call void @toy_square(ptr %in, ptr %out)
  ret i32 0
}
"""

TOY_INTERFACE = BundleInterface("toy", 1024, 16, (Slot(0, 512),), (Slot(512, 512),))


def toy_output(data: bytes) -> bytes:
    """What the bundle of `TOY` computes."""

    def square(values: list[int]) -> list[int]:
        return [value * value & 0xFF for value in values]

    return bytes(square([(value + 3 & 0xFF) ^ 85 for value in square(list(data))]))


#: Adds and multiplies two floats in memory: out[0] = a + b, out[1] = a * b, then converts: out[2] = int(a / b).
FLOATS = """
define void @floats(ptr %in, ptr %out) nounwind {
  %a = load float, ptr %in
  %pb = getelementptr float, ptr %in, i32 1
  %b = load float, ptr %pb
  %s = fadd float %a, %b
  store float %s, ptr %out
  %m = fmul float %a, %b
  %pm = getelementptr float, ptr %out, i32 1
  store float %m, ptr %pm
  %q = fdiv float %a, %b
  %i = fptosi float %q to i32
  %pi = getelementptr i32, ptr %out, i32 2
  store i32 %i, ptr %pi
  ret void
}
"""

#: Stores a byte where it is told; reads one; never ends; uses so many KiB of stack, by recursion.
MISCHIEF = """
define void @poke(ptr %p) nounwind {
  store volatile i8 1, ptr %p
  ret void
}
define i32 @peek(ptr %p) nounwind {
  %v = load volatile i32, ptr %p, align 4
  ret i32 %v
}
define void @forever() nounwind {
  br label %loop
loop:
  fence syncscope("singlethread") acq_rel
  br label %loop
}
define i32 @dig(i32 %depth) nounwind noinline {
  %scratch = alloca [1024 x i8]
  %p = getelementptr i8, ptr %scratch, i32 0
  store volatile i8 1, ptr %p
  %done = icmp eq i32 %depth, 0
  br i1 %done, label %exit, label %down
down:
  %less = sub i32 %depth, 1
  %r = call i32 @dig(i32 %less)
  %v = load volatile i8, ptr %p
  %w = zext i8 %v to i32
  %s = add i32 %r, %w
  ret i32 %s
exit:
  ret i32 0
}
"""
