"""From graph to program: kernels chosen, buffers made, lives measured, memory placed."""
