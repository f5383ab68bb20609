"""The agent of a microcontroller: a core in C without a system, and the other end of its link in Python."""
