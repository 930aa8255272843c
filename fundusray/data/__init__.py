"""Photographs from disk to prepared sets. Importing it fills SOURCES."""

from fundusray.data import sources, synthetic
from fundusray.data.found import SOURCES, Found, Problem

__all__ = ["SOURCES", "Found", "Problem", "sources", "synthetic"]
