"""Published layouts of photographs, each one function; importing it fills SOURCES."""

from fundusray.data.sources import (
    aptos,
    brset,
    chase,
    csv_table,
    eyepacs,
    folder,
    idrid,
    odir,
    retinamnist,
)

__all__ = [
    "aptos",
    "brset",
    "chase",
    "csv_table",
    "eyepacs",
    "folder",
    "idrid",
    "odir",
    "retinamnist",
]
