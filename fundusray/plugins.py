"""Losses, sources, metrics and the like from outside this package: modules that register them.

A module is named by the environment, `FUNDUSRAY_PLUGINS=my_losses,clinic.sources`, or by an
installed package's entry point in the group `fundusray`. It is imported once a process, when a name
is looked for that is not there or names are listed: in a driver as in the workers of a cluster,
where it has to be importable, too (`--working-dir`, an image, an installed package).
"""

import importlib
import importlib.metadata
import os
import threading

from fundusray.errors import InputError

VARIABLE = "FUNDUSRAY_PLUGINS"
GROUP = "fundusray"
_LOCK = threading.RLock()


class _Progress:
    begun = done = False
    failed: InputError | None = None


def load_plugins() -> None:
    """Imports every plugin, once; the next call does nothing.

    Raises:
        InputError: one cannot be imported; who names it, why, and what to do. Every later call
            says so again.
    """
    if _Progress.done:
        return
    with _LOCK:
        if _Progress.failed is not None:
            raise _Progress.failed
        if _Progress.begun:
            return  # what is imported looks a name up itself
        _Progress.begun = True
        for module, named_by in plugin_modules():
            try:
                importlib.import_module(module)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                _Progress.failed = InputError(
                    f"plugin {module} (named by {named_by}) cannot be imported: {reason}; mend it, "
                    "make it importable on every machine, or take it out"
                )
                raise _Progress.failed from error
        _Progress.done = True


def plugin_modules() -> list[tuple[str, str]]:
    """(module, who names it) of every plugin, each once."""
    named = {name.strip(): VARIABLE for name in os.environ.get(VARIABLE, "").split(",")}
    named.pop("", None)
    for entry in importlib.metadata.entry_points(group=GROUP):
        owner = entry.dist.name if entry.dist else "a package"
        named.setdefault(entry.module, f"the entry point {entry.name!r} of {owner}")
    return list(named.items())
