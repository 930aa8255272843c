"""Change photographs until a trained network takes them for another class, by integrated gradients
and by the plain gradient: what is needed, how smooth the change is, what it looks like.

python jobs/counterfactuals.py runs/demo-1a2b3c4d/bundle
python jobs/counterfactuals.py <plain bundle> <robust bundle> <plain bundle>+<robust bundle>
python jobs/counterfactuals.py <bundle> target=next counterfactuals.rows=200 data=/data/other_eyes
python jobs/counterfactuals.py <bundle> target=0 from=2 counterfactuals.steps=100
"""

import sys

from fundusray.command import main
from fundusray.jobs.counterfactuals import counterfactuals

if __name__ == "__main__":
    sys.exit(main(__doc__, counterfactuals, sys.argv[1:]))
