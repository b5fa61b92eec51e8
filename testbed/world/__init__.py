"""A drawn world in which every pixel is labelled and every cause is known."""
