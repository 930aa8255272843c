"""Measure what a split by image adds: one recipe under both splits, the same eyes tested.

python jobs/leak_premium.py data.source=eyepacs data.root=/data/eyepacs repeats=3
"""

import sys

from fundusray.command import main
from fundusray.jobs.photographs import leak_premium

if __name__ == "__main__":
    sys.exit(main(__doc__, leak_premium, sys.argv[1:]))
