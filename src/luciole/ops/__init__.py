"""The core operators: one class each, which holds everything the compiler knows about it."""
