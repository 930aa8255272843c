"""Read a folder of photographs and its labels, preprocess every image once, keep them as shards.

python jobs/prepare.py data.source=eyepacs data.root=/data/eyepacs data.size=512
"""

import sys

from fundusray.command import main
from fundusray.jobs.photographs import prepare

if __name__ == "__main__":
    sys.exit(main(__doc__, prepare, sys.argv[1:]))
