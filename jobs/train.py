"""Train one recipe and report it.

python jobs/train.py wu.table5.focal_gamma2 data.root=/data/eyepacs train.epochs=5
ray job submit --working-dir . -- python jobs/train.py wu.table5.baseline data.root=/data/eyepacs
"""

import sys

from fundusray.command import main
from fundusray.jobs.training import train

if __name__ == "__main__":
    sys.exit(main(__doc__, train, sys.argv[1:]))
