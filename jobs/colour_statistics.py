"""Measure mean and standard deviation of a set's colours, for model.mean and model.std.

python jobs/colour_statistics.py data.source=odir data.root=/data/odir data.preprocess=contour
"""

import sys

from fundusray.command import main
from fundusray.jobs.photographs import colour_statistics

if __name__ == "__main__":
    sys.exit(main(__doc__, colour_statistics, sys.argv[1:]))
