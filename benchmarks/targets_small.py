"""What models take on a microcontroller, and whether they answer there as they do elsewhere: parts of
benchmarks/targets.py. Each model is linked with a start for the emulated board, and runs there; flash is all that is
programmed (the start's 0.5 kB included), memory what is reserved (rows and answers included, the stack apart).
"""

from __future__ import annotations
