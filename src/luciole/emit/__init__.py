"""Back ends: a kernel as C99 or as LLVM assembly, and the entry functions around them."""
