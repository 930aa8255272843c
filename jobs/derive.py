"""Store a data set as a bad camera would have taken it: every photograph damaged once, with a
receipt of what was done to it.

python jobs/derive.py wu.table6.corrupt_1_4 "condition=wu(level=1-4)" data=/data/eyepacs
python jobs/train.py wu.table5.baseline data=/data/eyepacs data.mix=<the folder it printed>
"""

import sys

from fundusray.command import main
from fundusray.jobs.deriving import derive

if __name__ == "__main__":
    sys.exit(main(__doc__, derive, sys.argv[1:]))
