"""Search how strong an attack to train on: clean kappa against robust accuracy, with their front.

python jobs/tune_epsilons.py demo
python jobs/tune_epsilons.py data=/data/eyepacs adversarial.judge_eps=1/255 tune.trials=20
python jobs/tune_epsilons.py runs/demo-search-1a2b3c4d   (its report anew; nothing is run)
"""

import sys

from fundusray.command import main
from fundusray.jobs.searching import tune
from tune_spaces import epsilons

if __name__ == "__main__":
    sys.exit(main(__doc__, lambda asked: tune(asked, epsilons), sys.argv[1:]))
