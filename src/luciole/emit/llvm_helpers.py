"""Functions that LLVM modules bring along for what a core cannot do itself: no helper is called from outside."""

from __future__ import annotations

#: Signed division, one bit at a time, for cores without a divide instruction.
DIVISION = """
define internal i32 @luciole_divide(i32 %a, i32 %b) noinline nounwind "no-builtins" {
  %a.negative = ashr i32 %a, 31
  %b.negative = ashr i32 %b, 31
  %a.flipped = xor i32 %a, %a.negative
  %a.magnitude = sub i32 %a.flipped, %a.negative
  %b.flipped = xor i32 %b, %b.negative
  %b.magnitude = sub i32 %b.flipped, %b.negative
  br label %step
step:
  %bit = phi i32 [ 31, %0 ], [ %next, %step ]
  %rest = phi i32 [ 0, %0 ], [ %rest.new, %step ]
  %quotient = phi i32 [ 0, %0 ], [ %quotient.new, %step ]
  %rest.up = shl i32 %rest, 1
  %digit.far = lshr i32 %a.magnitude, %bit
  %digit = and i32 %digit.far, 1
  %rest.full = or i32 %rest.up, %digit
  %fits = icmp uge i32 %rest.full, %b.magnitude
  %less = sub i32 %rest.full, %b.magnitude
  %rest.new = select i1 %fits, i32 %less, i32 %rest.full
  %quotient.up = shl i32 %quotient, 1
  %one = zext i1 %fits to i32
  %quotient.new = or i32 %quotient.up, %one
  %next = add i32 %bit, -1
  %done = icmp eq i32 %bit, 0
  br i1 %done, label %end, label %step
end:
  %sign = xor i32 %a.negative, %b.negative
  %signed = xor i32 %quotient.new, %sign
  %result = sub i32 %signed, %sign
  ret i32 %result
}
"""

#: The same for unsigned numbers, whose rest may leave 32 bits: then the divisor fits surely.
UNSIGNED_DIVISION = """
define internal i32 @luciole_divide_unsigned(i32 %a, i32 %b) noinline nounwind "no-builtins" {
  br label %step
step:
  %bit = phi i32 [ 31, %0 ], [ %next, %step ]
  %rest = phi i32 [ 0, %0 ], [ %rest.new, %step ]
  %quotient = phi i32 [ 0, %0 ], [ %quotient.new, %step ]
  %carries = icmp slt i32 %rest, 0
  %rest.up = shl i32 %rest, 1
  %digit.far = lshr i32 %a, %bit
  %digit = and i32 %digit.far, 1
  %rest.full = or i32 %rest.up, %digit
  %reaches = icmp uge i32 %rest.full, %b
  %fits = or i1 %carries, %reaches
  %less = sub i32 %rest.full, %b
  %rest.new = select i1 %fits, i32 %less, i32 %rest.full
  %quotient.up = shl i32 %quotient, 1
  %one = zext i1 %fits to i32
  %quotient.new = or i32 %quotient.up, %one
  %next = add i32 %bit, -1
  %done = icmp eq i32 %bit, 0
  br i1 %done, label %end, label %step
end:
  ret i32 %quotient.new
}
"""

#: The square root, correctly rounded, for cores without an FPU: 25 bits, one at a time, the last one to round. The
#: number is mantissa * 2**(exponent - 150) with an even exponent, so that the mantissa's root is the number's.
SQUARE_ROOT = """
define internal float @luciole_sqrt(float %value) noinline nounwind "no-builtins" {
entry:
  %bits = bitcast float %value to i32
  %magnitude = and i32 %bits, 2147483647
  %is.zero = icmp eq i32 %magnitude, 0
  %is.nan = icmp ugt i32 %magnitude, 2139095040
  %is.infinity = icmp eq i32 %bits, 2139095040
  %is.special = or i1 %is.zero, %is.nan
  %is.same = or i1 %is.special, %is.infinity
  br i1 %is.same, label %same, label %number
same:
  ret float %value
number:
  %is.negative = icmp slt i32 %bits, 0
  br i1 %is.negative, label %negative, label %positive
negative:
  ret float 0x7FF8000000000000
positive:
  %exponent.raw = lshr i32 %bits, 23
  %fraction = and i32 %bits, 8388607
  %is.subnormal = icmp eq i32 %exponent.raw, 0
  br i1 %is.subnormal, label %normalize, label %normal
normalize:
  %moved = phi i32 [ %fraction, %positive ], [ %moved.next, %normalize ]
  %lowered = phi i32 [ 1, %positive ], [ %lowered.next, %normalize ]
  %moved.next = shl i32 %moved, 1
  %lowered.next = add i32 %lowered, -1
  %more = icmp ult i32 %moved.next, 8388608
  br i1 %more, label %normalize, label %root
normal:
  %full = or i32 %fraction, 8388608
  br label %root
root:
  %mantissa = phi i32 [ %full, %normal ], [ %moved.next, %normalize ]
  %exponent = phi i32 [ %exponent.raw, %normal ], [ %lowered.next, %normalize ]
  %low = and i32 %exponent, 1
  %is.odd = icmp ne i32 %low, 0
  %wide = zext i32 %mantissa to i64
  %by25 = shl i64 %wide, 25
  %by26 = shl i64 %wide, 26
  %rest.first = select i1 %is.odd, i64 %by25, i64 %by26
  %step.exponent = select i1 %is.odd, i32 -1, i32 -2
  %even = add i32 %exponent, %step.exponent
  br label %digit
digit:
  %bit = phi i64 [ 281474976710656, %root ], [ %bit.next, %digit ]
  %rest = phi i64 [ %rest.first, %root ], [ %rest.next, %digit ]
  %result = phi i64 [ 0, %root ], [ %result.next, %digit ]
  %trial = add i64 %result, %bit
  %fits = icmp uge i64 %rest, %trial
  %less = sub i64 %rest, %trial
  %rest.next = select i1 %fits, i64 %less, i64 %rest
  %half = lshr i64 %result, 1
  %with = add i64 %half, %bit
  %result.next = select i1 %fits, i64 %with, i64 %half
  %bit.next = lshr i64 %bit, 2
  %done = icmp eq i64 %bit.next, 0
  br i1 %done, label %end, label %digit
end:
  %narrow = trunc i64 %result.next to i32
  %raised = add i32 %narrow, 1
  %rounded = lshr i32 %raised, 1
  %halved = ashr i32 %even, 1
  %biased = add i32 %halved, 64
  %place = shl i32 %biased, 23
  %sum = add i32 %place, %rounded
  %number.bits = sub i32 %sum, 8388608
  %number.value = bitcast i32 %number.bits to float
  ret float %number.value
}
"""
