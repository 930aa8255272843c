"""Look at every photograph of a set: what decodes, what is odd, what is there twice.

python jobs/scan.py data.source=idrid data.root=/data/IDRiD
ray job submit --working-dir . -- python jobs/scan.py data.source=eyepacs data.root=/data/eyepacs
"""

import sys

from fundusray.command import main
from fundusray.jobs.photographs import scan

if __name__ == "__main__":
    sys.exit(main(__doc__, scan, sys.argv[1:]))
