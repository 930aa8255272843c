"""Show photographs as taken and after each preprocessing, on one sheet; or under each kind of
damage at each of its levels.

python jobs/sheet.py data.source=eyepacs data.root=/data/eyepacs data.size=256 photos=6
python jobs/sheet.py data=/data/eyepacs photos=4 corruptions=wu
python jobs/sheet.py data=/data/eyepacs photos=2 corruptions=halo,spots,noise
"""

import sys

from fundusray.command import main
from fundusray.jobs.sheets import sheet

if __name__ == "__main__":
    sys.exit(main(__doc__, sheet, sys.argv[1:]))
