"""Find out whether a trained network's answer is linear in the units of a layer: photographs are
moved along their gradient, twice as far from step to step, and each unit's attribution is followed.

python jobs/linearity.py runs/demo-1a2b3c4d/bundle
python jobs/linearity.py <bundle> layer=fc linearity.rows=200 target=4
python jobs/linearity.py <bundle> output=probability doublings=8 data=/data/other_eyes
"""

import sys

from fundusray.command import main
from fundusray.jobs.linearity import linearity

if __name__ == "__main__":
    sys.exit(main(__doc__, linearity, sys.argv[1:]))
