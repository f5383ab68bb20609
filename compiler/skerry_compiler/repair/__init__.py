"""Accuracy repair: byte candidates that agree with the original, found by search, drafted again from their names."""
