"""Published layouts of photographs, each one function; importing it fills SOURCES."""

from fundusray.data.sources import (
    aptos,
    brset,
    chase,
    csv_table,
    ddr,
    deepdrid,
    eyepacs,
    fgadr,
    folder,
    idrid,
    mbrset,
    messidor2,
    odir,
    papila,
    retinamnist,
    rfmid,
)

__all__ = [
    "aptos",
    "brset",
    "chase",
    "csv_table",
    "ddr",
    "deepdrid",
    "eyepacs",
    "fgadr",
    "folder",
    "idrid",
    "mbrset",
    "messidor2",
    "odir",
    "papila",
    "retinamnist",
    "rfmid",
]
