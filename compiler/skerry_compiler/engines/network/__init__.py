"""The engine that turns networks into C."""
