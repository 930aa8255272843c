"""Train, search and honestly evaluate deep networks on retinal fundus photographs, on Ray."""

__version__ = "0.1.0"
