"""How far a board is proven: reference models compiled for it, looked at, and run on it or in its emulator."""
