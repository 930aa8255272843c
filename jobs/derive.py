"""Store a changed copy of a data set, with a receipt of what was done to each photograph: as a bad
camera would have taken it, or as a network that segments makes layered or selectively enhanced
examples of it.

python jobs/derive.py wu.table6.corrupt_1_4 "condition=wu(level=1-4)" data=/data/eyepacs
python jobs/train.py wu.table5.baseline data=/data/eyepacs data.mix=<the folder it printed>

python jobs/derive.py runs/<run>/bundle "condition=layered(eps=1/100, steps=100)" data.encoding=raw
python jobs/derive.py runs/<run>/bundle "condition=selective(eps=1/100)" derive.rows=train
python jobs/train.py avramidis.table1.combined data=/data/idrid data.mix=<one>,<the other>
"""

import sys

from fundusray.command import main
from fundusray.jobs.deriving import derive

if __name__ == "__main__":
    sys.exit(main(__doc__, derive, sys.argv[1:]))
