"""Judge a trained network by both eyes of every patient.

What it says of the fellow eye is evidence on an eye: a small second stage, fitted on the training
side, weighs both. Its figures stand beside those of the network alone, with paired differences.

python jobs/two_eyes.py runs/screening-1a2b3c4d/bundle
python jobs/two_eyes.py <bundle> fit=val     on validation patients, which the network did not learn
"""

import sys

from fundusray.command import main
from fundusray.jobs.both_eyes import both_eyes

if __name__ == "__main__":
    sys.exit(main(__doc__, both_eyes, sys.argv[1:]))
