"""The real agent and fleet in a false world, and the demonstration."""
