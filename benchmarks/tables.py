"""A million rows of labels checked, against a reader that checks nothing.

Every row is looked at: a known label, an id that names no path, no id twice, a photograph that is
there. The photographs are not made; what a listing of their folder would say is given.
"""

import csv
import io
import sys
import tempfile
import time
from pathlib import Path

from rounds import compare, conclude

from fundusray.config import Data
from fundusray.data import SOURCES
from fundusray.data.reading.folders import FolderListing
from fundusray.data.sources import eyepacs

NUM = 1_000_000
SECONDS = 5.0


def main() -> int:
    ids = [f"{i // 2}_{('left', 'right')[i % 2]}" for i in range(NUM)]
    text = "image,level\n" + "".join(f"{name},{i % 5}\n" for i, name in enumerate(ids))
    held = dict.fromkeys([f"{name}.jpeg" for name in ids[:-1]], 1)
    listing = FolderListing("train/", held, [], set(), [], [])
    eyepacs.list_folder = lambda root, name="": listing
    with tempfile.TemporaryDirectory() as root:
        Path(root, "trainLabels.csv").write_text(text)
        taken = []

        def ours() -> None:
            began = time.process_time()
            found = SOURCES.find("eyepacs")(Data(source="eyepacs"), root, 0)
            taken.append(time.process_time() - began)
            assert len(found.columns["grade"]) == NUM - 1 and len(found.problems) == 1

        def peer() -> None:
            assert sum(1 for _ in csv.reader(io.StringIO(text))) == NUM + 1

        ratio = compare("a million rows", peer, ours, rounds=3, items=NUM, unit="rows")
    print(f"{min(taken):.1f} to {max(taken):.1f} s of one core; {1 / ratio:.1f} times bare reading")
    conclude({"million_rows_5_s_over_ours": (SECONDS / sorted(taken)[len(taken) // 2], 1.0)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
