"""What a board is: one profile each, what fits it, and how far that is proven."""
