"""Show photographs as taken and after each preprocessing, on one sheet.

python jobs/sheet.py data.source=eyepacs data.root=/data/eyepacs data.size=256 photos=6
"""

import sys

from fundusray.command import main
from fundusray.jobs.photographs import sheet

if __name__ == "__main__":
    sys.exit(main(__doc__, sheet, sys.argv[1:]))
