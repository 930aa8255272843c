"""Augmentations as text: operations, and what is drawn for each image."""

from fundusray.registry import import_folder

# An operation lies in a file of its own, too.
import_folder(__name__, __path__)
