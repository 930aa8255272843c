"""Certify a trained network by randomised smoothing: which answers no change of a photograph within
a radius can undo, by accuracy and by sensitivity of referable disease.

python jobs/certify.py runs/demo-1a2b3c4d/bundle sigma=0.05
python jobs/certify.py <bundle> sigma=0.1 draws=10000 certify.rows=100
"""

import sys

from fundusray.command import main
from fundusray.jobs.certifying import certify

if __name__ == "__main__":
    sys.exit(main(__doc__, certify, sys.argv[1:]))
