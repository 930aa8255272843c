"""Where the bundles lie that a text names: a place each, with a + between those that are joined."""

from fundusray import files
from fundusray.verified import MANIFEST

BUNDLE_WEIGHTS = "model.safetensors"
JOIN = "+"
"""Between the places of networks that are asked as one."""


def bundle_folder(location: str) -> str:
    """The folder of the bundle that is meant by its own place, by the weights file in it, or by
    the run that made it; any other location as it is, absolute."""
    location = files.absolute(location)
    folder, _, name = location.rpartition("/")
    if name == BUNDLE_WEIGHTS and files.exists(files.join(folder, MANIFEST)):
        return folder
    inner = files.join(location, "bundle")
    of_run = not files.exists(files.join(location, MANIFEST))
    return inner if of_run and files.exists(files.join(inner, MANIFEST)) else location


def member_folders(text: str) -> tuple[str, ...]:
    """The folders of the bundles in `<bundle>+<bundle>`, each as `bundle_folder` finds it; one of a
    text that is a bundle as a whole, or that holds no +.

    A name may hold a + itself: of the pieces between them as many as are a bundle together are
    taken for one.
    """
    pieces, folders = text.split(JOIN), list[str]()
    while pieces:
        for length in range(len(pieces), 0, -1):
            folder = bundle_folder(JOIN.join(pieces[:length]))
            if length == 1 or files.exists(files.join(folder, MANIFEST)):
                break
        folders.append(folder)
        pieces = pieces[length:]
    return tuple(folders)
