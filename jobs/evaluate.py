"""Predict with a bundle and measure, on its own test rows or on other photographs, where those that
it was trained on are left out.

python jobs/evaluate.py runs/demo-1a2b3c4d/bundle
python jobs/evaluate.py runs/demo-1a2b3c4d/bundle data.source=eyepacs data.root=/data/other
python jobs/evaluate.py runs/demo-1a2b3c4d/bundle "condition=pgd(eps=2/255, steps=20)"
"""

import sys

from fundusray.command import main
from fundusray.jobs.evaluating import evaluate

if __name__ == "__main__":
    sys.exit(main(__doc__, evaluate, sys.argv[1:]))
