"""Run the four-model scheme for robust segmentation (Avramidis et al.); write its Tables 1 and 2.

python jobs/segmentation_scheme.py scale=small
python jobs/segmentation_scheme.py data.source=idrid data.root=/data/IDRiD repeats=3
python jobs/segmentation_scheme.py data=/data/IDRiD data.split=given search=greedy train.epochs=40
"""

import sys

from fundusray.command import main
from fundusray.jobs.segmentation_scheme import segmentation_scheme

if __name__ == "__main__":
    sys.exit(main(__doc__, segmentation_scheme, sys.argv[1:]))
