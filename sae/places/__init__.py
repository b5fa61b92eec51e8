"""Where each image token looks: boxes in pixels of the original image.

A family's layout comes down to a list of views: parts of the picture, each read as a grid.
"""
