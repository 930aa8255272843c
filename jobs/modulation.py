"""Lead photographs to another class of a trained network, and compare where it had to change them
with other maps of the same photographs and with the regions of the retina (Kon 2024).

python jobs/modulation.py runs/demo-1a2b3c4d/bundle
python jobs/modulation.py <bundle> null=<bundle of data.permute_labels=true> modulation.rows=100
python jobs/modulation.py <bundle> "eps=0.5unit01|1unit01|3unit01" norm=l2 goal=male data=/data/eyes
python jobs/modulation.py <bundle> "eps=1/255|4/255" norm=linf method=grad_cam,occlusion
"""

import sys

from fundusray.command import main
from fundusray.jobs.modulation import modulation

if __name__ == "__main__":
    sys.exit(main(__doc__, modulation, sys.argv[1:]))
