"""Learn one change that fools a trained network on as many photographs as it can, and judge it on
others, beside noise of the same length.

python jobs/universal.py runs/demo-1a2b3c4d/bundle eps=4/255
python jobs/universal.py <bundle> eps=4/255 goal=0 passes=20 universal.rows=1000
python jobs/universal.py <bundle> eps=10unit01 norm=l2 data=/data/other_eyes
"""

import sys

from fundusray.command import main
from fundusray.jobs.universal import universal

if __name__ == "__main__":
    sys.exit(main(__doc__, universal, sys.argv[1:]))
