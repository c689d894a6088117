"""The Program IR: buffers in memory regions and a list of instructions that own the memory."""
