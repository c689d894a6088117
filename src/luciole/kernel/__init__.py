"""The Kernel IR: a loop tree over typed buffers, with registers, raw pointers and intrinsics with a meaning."""
