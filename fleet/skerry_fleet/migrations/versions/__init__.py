"""One file a step, named by its number. A step is never changed once it has been released."""
