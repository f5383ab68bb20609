"""Boards in emulation: the real agent on a userland of its own processor, against a real broker and a real fleet."""
