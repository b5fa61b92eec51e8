"""A package of one task, to copy from. Its second entry point is broken on purpose."""
