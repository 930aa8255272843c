"""Published layouts of photographs, each one function; importing it fills SOURCES.

A new one is a file here, or a plugin's: a function from a root to what it holds
(`data.manifest.contract`),
under `@SOURCES.register("name", **facts)`. A label that no other source has is registered beside
it, `LABELS.register("glaucoma")(("absent", "suspected", "present"))`.
"""

from fundusray.registry import import_folder

import_folder(__name__, __path__)
