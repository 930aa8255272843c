"""Search how damaged training photographs should be: kappa on good photographs against kappa on
damaged ones, with their front.

python jobs/tune_corruption.py demo
python jobs/tune_corruption.py data=/data/eyepacs "data.judge_corrupt=motion_blur(level=1-4)"
python jobs/tune_corruption.py runs/demo-search-1a2b3c4d   (its report anew; nothing is run)
"""

import sys

from fundusray.command import main
from fundusray.jobs.searching import tune
from tune_spaces import corruption_levels

if __name__ == "__main__":
    sys.exit(main(__doc__, lambda asked: tune(asked, corruption_levels), sys.argv[1:]))
