"""Counts executed blocks in machine code of our own, called straight from the emulator: a Python hook costs 0.9 us a
block.

The hook is LLVM assembly, compiled for this machine once. It keeps, for every even address of the code, how often a
block began there and how often another than the following address came next; and it calls back into Python only when
the measured function is back from a call, which is where an interval ends.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from luciole.emit import native
from luciole.emulate.blocks import Block, Interval
from luciole.errors import InternalError
from luciole.ir.target import find_target

#: The state that the hook works on: 64-bit fields, in this order.
_FIELDS = (
    "base",  # address of the first counter
    "counters",  # how many
    "begin",  # of the measured function
    "end",
    "ignored",  # where the emulator stops
    "previous",  # index + 1 of the block before, 0 for none
    "previous_end",  # the address after it
    "site",  # address of the last block of the measured function
    "callee",  # first address outside it since, 0 for none
    "conflict",  # 1 when an address began blocks of two sizes
    "executed",  # addresses of the three arrays
    "taken",
    "sizes",
    "on_return",  # address of the callback
    "misaligned",  # first address of an access that is not a multiple of its size, 0 for none
    "stop",  # address of the emulator's function that stops it
)

_HOOK = """
%state = type { FIELDS }

define void @on_block(ptr %uc, i64 %address, i32 %size32, ptr %state) nounwind {
entry:
  %size = zext i32 %size32 to i64
  %pprev = getelementptr %state, ptr %state, i32 0, i32 PREVIOUS
  %prev = load i64, ptr %pprev
  %hasprev = icmp ne i64 %prev, 0
  %pprevend = getelementptr %state, ptr %state, i32 0, i32 PREVIOUS_END
  %prevend = load i64, ptr %pprevend
  %jumped = icmp ne i64 %prevend, %address
  %count = and i1 %hasprev, %jumped
  br i1 %count, label %taken, label %stopping

taken:
  %ptaken = getelementptr %state, ptr %state, i32 0, i32 TAKEN
  %takenbase = load ptr, ptr %ptaken
  %previndex = sub i64 %prev, 1
  %ptakenslot = getelementptr i64, ptr %takenbase, i64 %previndex
  %takenold = load i64, ptr %ptakenslot
  %takennew = add i64 %takenold, 1
  store i64 %takennew, ptr %ptakenslot
  br label %stopping

stopping:
  store i64 0, ptr %pprev
  %pignored = getelementptr %state, ptr %state, i32 0, i32 IGNORED
  %ignored = load i64, ptr %pignored
  %isend = icmp eq i64 %address, %ignored
  br i1 %isend, label %done, label %place

place:
  %pbegin = getelementptr %state, ptr %state, i32 0, i32 BEGIN
  %begin = load i64, ptr %pbegin
  %pend = getelementptr %state, ptr %state, i32 0, i32 END
  %end = load i64, ptr %pend
  %after = icmp uge i64 %address, %begin
  %before = icmp ult i64 %address, %end
  %inside = and i1 %after, %before
  %pcallee = getelementptr %state, ptr %state, i32 0, i32 CALLEE
  %callee = load i64, ptr %pcallee
  %called = icmp ne i64 %callee, 0
  br i1 %inside, label %root, label %outside

root:
  br i1 %called, label %back, label %mark

back:
  %pon = getelementptr %state, ptr %state, i32 0, i32 ON_RETURN
  %on = load ptr, ptr %pon
  call void %on()
  store i64 0, ptr %pcallee
  br label %mark

mark:
  %psite = getelementptr %state, ptr %state, i32 0, i32 SITE
  store i64 %address, ptr %psite
  br label %bump

outside:
  br i1 %called, label %bump, label %first

first:
  store i64 %address, ptr %pcallee
  br label %bump

bump:
  %pbase = getelementptr %state, ptr %state, i32 0, i32 BASE
  %base = load i64, ptr %pbase
  %pcounters = getelementptr %state, ptr %state, i32 0, i32 COUNTERS
  %counters = load i64, ptr %pcounters
  %offset = sub i64 %address, %base
  %index = lshr i64 %offset, 1
  %known = icmp ult i64 %index, %counters
  br i1 %known, label %add, label %done

add:
  %pexecuted = getelementptr %state, ptr %state, i32 0, i32 EXECUTED
  %executedbase = load ptr, ptr %pexecuted
  %pslot = getelementptr i64, ptr %executedbase, i64 %index
  %old = load i64, ptr %pslot
  %new = add i64 %old, 1
  store i64 %new, ptr %pslot
  %psizes = getelementptr %state, ptr %state, i32 0, i32 SIZES
  %sizesbase = load ptr, ptr %psizes
  %psize = getelementptr i64, ptr %sizesbase, i64 %index
  %oldsize = load i64, ptr %psize
  %fresh = icmp eq i64 %oldsize, 0
  %same = icmp eq i64 %oldsize, %size
  %fine = or i1 %fresh, %same
  store i64 %size, ptr %psize
  %nextindex = add i64 %index, 1
  store i64 %nextindex, ptr %pprev
  %next = add i64 %address, %size
  store i64 %next, ptr %pprevend
  br i1 %fine, label %done, label %differs

differs:
  %pconflict = getelementptr %state, ptr %state, i32 0, i32 CONFLICT
  store i64 1, ptr %pconflict
  br label %done

done:
  ret void
}

define void @on_access(ptr %uc, i32 %kind, i64 %address, i32 %size32, i64 %value, ptr %state) nounwind {
entry:
  %size = zext i32 %size32 to i64
  %mask = sub i64 %size, 1
  %rest = and i64 %address, %mask
  %aligned = icmp eq i64 %rest, 0
  br i1 %aligned, label %done, label %bad

bad:
  %pmisaligned = getelementptr %state, ptr %state, i32 0, i32 MISALIGNED
  %already = load i64, ptr %pmisaligned
  %known = icmp ne i64 %already, 0
  br i1 %known, label %done, label %stop

stop:
  store i64 %address, ptr %pmisaligned
  %pstop = getelementptr %state, ptr %state, i32 0, i32 STOP
  %function = load ptr, ptr %pstop
  %status = call i32 %function(ptr %uc)
  br label %done

done:
  ret void
}
"""


@dataclass(frozen=True)
class _Hooks:
    """The compiled hooks: their addresses, and what keeps them in memory."""

    on_block: int
    on_access: int
    owner: native.LoadedObject


@cache
def _compile_hooks() -> _Hooks:
    """Compile the hooks for this machine, once a process."""
    text = _HOOK.replace("FIELDS", ", ".join(["i64"] * len(_FIELDS)))
    for index, name in sorted(enumerate(_FIELDS), key=lambda item: -len(item[1])):
        text = text.replace(f"i32 {name.upper()}\n", f"i32 {index}\n")
    owner = native.LoadedObject(native.compile_object([native.LlvmModule(text)], find_target("native")))
    return _Hooks(owner.address("on_block"), owner.address("on_access"), owner)


_BlockHook = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)


@dataclass
class BlockRecorder:
    """Told of every executed block, splits the counts into intervals at the returns to the measured function.

    Attributes:
        begin, end: of the measured function.
        ignored: where the emulator stops; a block that begins there is left out.
        base, size: of the memory whose blocks are counted.
        intervals: those that are over; all of them after `finish`.
    """

    begin: int
    end: int
    ignored: int
    base: int
    size: int
    intervals: list[Interval] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = self.size // 2
        self._executed = np.zeros(count, np.uint64)
        self._taken = np.zeros(count, np.uint64)
        self._sizes = np.zeros(count, np.uint64)
        self._executed_before = np.zeros(count, np.uint64)
        self._taken_before = np.zeros(count, np.uint64)
        self._hooks = _compile_hooks()
        self._callback = ctypes.CFUNCTYPE(None)(self._close_interval)
        self._state = (ctypes.c_uint64 * len(_FIELDS))()
        self._set("base", self.base)
        self._set("counters", count)
        self._set("begin", self.begin)
        self._set("end", self.end)
        self._set("ignored", self.ignored)
        arrays: dict[str, NDArray[np.uint64]] = {
            "executed": self._executed,
            "taken": self._taken,
            "sizes": self._sizes,
        }
        for name, array in arrays.items():
            self._set(name, array.ctypes.data)
        self._set("on_return", ctypes.cast(self._callback, ctypes.c_void_p).value or 0)

    def _set(self, name: str, value: int) -> None:
        self._state[_FIELDS.index(name)] = value

    def _get(self, name: str) -> int:
        return int(self._state[_FIELDS.index(name)])

    @property
    def block_hook(self) -> int:
        """Address of the function to call for every block, with the emulator, address, size, and `state_address`."""
        return self._hooks.on_block

    def access_hook(self, stop: int) -> int:
        """Address of the function to call for every memory access; it calls `stop` at the first misaligned one."""
        self._set("stop", stop)
        return self._hooks.on_access

    @property
    def state_address(self) -> int:
        """What the hooks take as their last argument."""
        return ctypes.addressof(self._state)

    @property
    def misaligned_address(self) -> int:
        """Address of the first access that was not a multiple of its size, 0 when there was none."""
        return self._get("misaligned")

    def record(self, address: int, size: int) -> None:
        """A block begins to execute: what the emulator does through `block_hook`."""
        _BlockHook(self.block_hook)(None, address, size, self.state_address)

    def _close_interval(self) -> None:
        """Turn the counts since the last interval into one."""
        executed = self._executed - self._executed_before
        taken = self._taken - self._taken_before
        blocks: dict[Block, tuple[int, int]] = {}
        for index in np.flatnonzero(executed | taken).tolist():
            block = (self.base + 2 * index, int(self._sizes[index]))
            blocks[block] = (int(executed[index]), int(taken[index]))
        self.intervals.append(Interval(blocks, self._get("site"), self._get("callee") or None))
        self._executed_before[:] = self._executed
        self._taken_before[:] = self._taken

    def finish(self) -> list[Interval]:
        """All intervals, the last one closed."""
        self._close_interval()
        if self._get("conflict"):
            raise InternalError("the emulator translated one address in blocks of two sizes")
        return self.intervals
