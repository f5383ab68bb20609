"""Passes over the ONNX graph: each says what it requires, runs, and checks what it ensures. One file each."""
