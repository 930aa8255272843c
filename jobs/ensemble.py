"""Average trained networks, in weights and in answers, and judge both beside the single ones.

The mean of weights is written as a bundle of its own. All are judged on the photographs that none
of them was trained on, with paired differences.

python jobs/ensemble.py runs/a-1a2b3c4d/bundle runs/b-5e6f7a8b/bundle
python jobs/ensemble.py <bundle> <bundle> <bundle> data.source=eyepacs data.root=/data/other
"""

import sys

from fundusray.command import main
from fundusray.jobs.ensembles import ensemble

if __name__ == "__main__":
    sys.exit(main(__doc__, ensemble, sys.argv[1:]))
