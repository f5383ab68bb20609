"""Boards that are not this machine, in emulators: programs of other processors, microcontrollers, WebAssembly."""
