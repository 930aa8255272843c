"""Pretrain a network on drawn photographs, where ImageNet weights cannot be fetched.

python jobs/pretrain.py model.name=efficientnet_b0 data.num_images=3000 data.size=96 train.epochs=8
python jobs/train.py wu.table5.focal_gamma2 data.root=/data/eyepacs model.weights=<its bundle>
"""

import sys

from fundusray.command import main
from fundusray.jobs.pretrain import pretrain

if __name__ == "__main__":
    sys.exit(main(__doc__, pretrain, sys.argv[1:]))
