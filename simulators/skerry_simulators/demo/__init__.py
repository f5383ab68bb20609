"""The whole loop on one machine, on real data and real parts: what `make demo` runs."""
