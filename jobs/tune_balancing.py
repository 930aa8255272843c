"""Search losses, samplers and dropout against class imbalance; a leaderboard and a report.

python jobs/tune_balancing.py demo
python jobs/tune_balancing.py data.source=eyepacs data.root=/data/eyepacs tune.trials=20
ray job submit --working-dir . -- python jobs/tune_balancing.py data.source=eyepacs \
    data.root=/data/eyepacs run.storage=s3://bucket/runs
python jobs/tune_balancing.py runs/demo-search-1a2b3c4d   (its report anew; nothing is run)
"""

import sys

from fundusray.command import main
from fundusray.jobs.searching import tune
from tune_spaces import balancing

if __name__ == "__main__":
    sys.exit(main(__doc__, lambda asked: tune(asked, balancing), sys.argv[1:]))
