"""A bundle under `qemu-system-*`: cores that unicorn lacks, and a second opinion on those it has.

`-icount shift=0` makes every executed instruction take one nanosecond of the machine's time, so that its timers count
instructions: exactly on RISC-V (minstret), to a tick on Arm (40 instructions at 25 MHz, 50 at 20 MHz, 32 at 32 MHz).
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from luciole.emulate.cores import Counter, EmulatedCore, QemuMachine
from luciole.emulate.interface import BundleInterface, check_inputs
from luciole.emulate.qemu_program import (
    FAULT_STATUS,
    INPUT_FILE,
    OUTPUT_FILE,
    PAINT,
    RECORD_WORDS,
    QemuProgram,
    build_program,
)
from luciole.emulate.result import CallRecord, EmulationFault, Measurement, RunResult
from luciole.emulate.start_code import SLOT_BYTES, SLOT_COUNT, SLOT_TOTAL
from luciole.errors import InternalError, ToolError

_PACKAGES = {"qemu-system-arm": "qemu-system-arm"}


def find_qemu(core: EmulatedCore) -> tuple[str, QemuMachine]:
    """Path of the program and the machine for `core`; raises `ToolError` when there is none or it is not installed."""
    machine = core.qemu
    if machine is None:
        raise ToolError(f"QEMU has no machine with a {core.name}")
    path = shutil.which(machine.program)
    if path is None:
        package = _PACKAGES.get(machine.program, "qemu-system-misc")
        raise ToolError(f"emulating {core.name} needs {machine.program}; on Debian: apt-get install {package}")
    return path, machine


class QemuBundle:
    """A bundle on a core that QEMU emulates; every run starts the machine anew. See `EmulatedBundle`."""

    def __init__(
        self,
        object_bytes: bytes,
        core: EmulatedCore,
        interface: BundleInterface,
        *,
        stack_bytes: int = 65536,
        time_limit_s: float = 600.0,
    ) -> None:
        self._path, self._machine = find_qemu(core)
        self._object_bytes = object_bytes
        self._core = core
        self._interface = interface
        self._stack_bytes = stack_bytes
        self._time_limit_s = time_limit_s
        build_program(
            object_bytes, core, self._machine, interface, samples=1, stack_bytes=stack_bytes, dump_stack=False
        )

    @property
    def emulator(self) -> str:
        """The program that emulates, and its machine."""
        return f"{self._machine.program} -M {self._machine.machine} ({self._core.name})"

    def run(self, inputs: Sequence[bytes], *, measure: bool = False) -> RunResult:
        """One inference; see `EmulatedBundle`."""
        if not measure:
            return self._run([inputs])[0]
        result = self._run([inputs], measure=True)[0]
        calls = self._run([inputs], by_call=True)[0]
        if calls.outputs != result.outputs or result.measurement is None or calls.measurement is None:
            raise InternalError(f"{self.emulator}: the outputs change when the calls are measured")
        return replace(result, measurement=replace(result.measurement, calls=calls.measurement.calls))

    def run_many(self, samples: Sequence[Sequence[bytes]]) -> list[RunResult]:
        """An inference for each sample, in one start of the machine, none of them counted."""
        return self._run(samples) if samples else []

    def _run(
        self, samples: Sequence[Sequence[bytes]], *, measure: bool = False, by_call: bool = False
    ) -> list[RunResult]:
        """Start the machine once for all samples, and measure the whole, or call by call, or nothing."""
        for inputs in samples:
            check_inputs(self._interface, inputs)
        program = build_program(
            self._object_bytes,
            self._core,
            self._machine,
            self._interface,
            samples=len(samples),
            stack_bytes=self._stack_bytes,
            dump_stack=measure,
            by_call=by_call,
        )
        stdin = b"".join(data for inputs in samples for data in inputs)
        output = self._execute(program, stdin, measure=measure or by_call)
        sizes = [4 * RECORD_WORDS, SLOT_BYTES * len(program.sites)]
        sizes += [*(slot.size for slot in self._interface.outputs), program.stack_bytes]
        if len(output) != sum(sizes) * len(samples):
            raise EmulationFault(f"{self.emulator} wrote {len(output)} B, {sum(sizes) * len(samples)} expected")
        results = []
        for index in range(len(samples)):
            position = index * sum(sizes)
            parts = []
            for size in sizes:
                parts.append(output[position : position + size])
                position += size
            record = self._read_record(parts[0])
            measurement = None
            if measure:
                used = len(parts[-1].lstrip(bytes([PAINT])))
                instructions = self._instructions(record[0], record[1], program.overhead)
                measurement = Measurement(0, instructions, stack_bytes=used)
            elif by_call:
                measurement = Measurement(0, 0, calls=self._calls(program, parts[1]))
            results.append(RunResult(tuple(parts[2:-1]), measurement, self.emulator))
        return results

    def _execute(self, program: QemuProgram, stdin: bytes, *, measure: bool) -> bytes:
        """Start the machine with the program; what it wrote comes back."""
        machine = self._machine
        with tempfile.TemporaryDirectory(prefix="luciole-qemu-") as name:
            folder = Path(name)
            (folder / "program.elf").write_bytes(program.image)
            (folder / INPUT_FILE).write_bytes(stdin)
            command = [self._path, "-M", machine.machine]
            command += ["-cpu", machine.cpu] if machine.cpu else []
            command += ["-bios", "none"] if machine.counter is Counter.MINSTRET else []
            command += ["-display", "none", "-monitor", "none", "-serial", "none"]
            command += ["-semihosting-config", "enable=on,target=native"]
            command += ["-icount", "shift=0"] if measure else []
            command += ["-kernel", "program.elf"]
            try:
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, timeout=self._time_limit_s, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise EmulationFault(f"{self.emulator}: no end after {self._time_limit_s:g} s") from error
            path = folder / OUTPUT_FILE
            output = path.read_bytes() if path.exists() else b""
        if done.returncode == FAULT_STATUS:
            raise EmulationFault(f"{self.emulator}: {self._describe_fault(program, output)}")
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise EmulationFault(f"{self.emulator} ended with status {done.returncode}: {' / '.join(said)}")
        return output

    def _describe_fault(self, program: QemuProgram, output: bytes) -> str:
        """The fault record at the end of the output in words."""
        words = struct.unpack(f"<{program.fault_words}I", output[-4 * program.fault_words :])
        if self._machine.counter is Counter.MINSTRET:
            cause, counter, address = words
            what = f"trap {cause} (mcause), address 0x{address:08x}"
        else:
            counter = words[8]
            what = f"fault 0x{words[0]:08x} (CFSR), address 0x{words[1]:08x}"
        function = program.loaded.function_at(counter & ~1)
        where = f"{function.name}+0x{(counter & ~1) - function.address:x}" if function is not None else "no function"
        return f"{what}, at pc 0x{counter:08x} in {where}"

    def _read_record(self, record: bytes) -> tuple[int, int]:
        """The counter before and after the run, once both statuses are seen to be OK."""
        words = struct.unpack(f"<{RECORD_WORDS}I", record)
        prefix = self._interface.prefix
        for symbol, status in ((f"{prefix}_init", words[0]), (self._interface.run_symbol, words[1])):
            if status:
                raise EmulationFault(f"{symbol} returned status {status}")
        return words[2] | words[3] << 32, words[4] | words[5] << 32

    def _instructions(self, before: int, after: int, overhead: int) -> int:
        """Instructions between two readings, without what the measurement adds."""
        down = self._machine.counter is Counter.CMSDK_TIMER
        return self._from_ticks((before - after) % (1 << 32) if down else after - before, overhead)

    def _from_ticks(self, ticks: int, overhead: int) -> int:
        return max(round(ticks * 1_000_000_000 / self._machine.clock_hz) - overhead, 0)

    def _calls(self, program: QemuProgram, slots: bytes) -> tuple[CallRecord, ...]:
        """One record for each call that was made; a call that was made several times has the sum."""
        records: list[CallRecord] = []
        for index, site in enumerate(program.sites):
            slot = slots[index * SLOT_BYTES : (index + 1) * SLOT_BYTES]
            ticks, count = (int.from_bytes(slot[at : at + 4], "little") for at in (SLOT_TOTAL, SLOT_COUNT))
            if count:
                instructions = self._from_ticks(ticks, count * program.call_overheads[index])
                records.append(CallRecord(len(records), site.address, site.symbol, instructions))
        return tuple(records)
