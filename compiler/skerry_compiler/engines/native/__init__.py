"""The native engine: a model becomes readable C, and the C a shared library that needs nothing on the device."""
