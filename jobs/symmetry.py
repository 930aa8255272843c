"""Hold a trained network's maps toward two classes against each other: are they complementary, and
where do they lie over many photographs?

python jobs/symmetry.py runs/demo-1a2b3c4d/bundle
python jobs/symmetry.py <bundle> pair=0,predicted symmetry.rows=200
python jobs/symmetry.py <bundle> "method=lesion_detection(neurons=200)" data=/data/other_eyes
"""

import sys

from fundusray.command import main
from fundusray.jobs.symmetry import symmetry

if __name__ == "__main__":
    sys.exit(main(__doc__, symmetry, sys.argv[1:]))
