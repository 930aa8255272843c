"""Photographs from disk to prepared sets. Importing it fills SOURCES."""

from fundusray.data import sources
from fundusray.data.drawn import source as drawn_source
from fundusray.data.manifest.contract import SOURCES, RowProblem, SourceContent

__all__ = ["SOURCES", "RowProblem", "SourceContent", "drawn_source", "sources"]
