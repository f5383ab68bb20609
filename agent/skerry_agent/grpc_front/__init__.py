"""The Open Inference Protocol v2 over gRPC: a process of its own before the local API, run only where asked for."""
