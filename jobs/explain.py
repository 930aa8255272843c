"""Show what networks look at: attribution maps of photographs, scored against lesion masks.

python jobs/explain.py runs/demo-1a2b3c4d/bundle method=integrated_gradients,grad_cam,occlusion
python jobs/explain.py <bundle> image=/data/eye.jpg
python jobs/explain.py <bundle> <other bundle> data=/data/IDRiD explain.rows=0 overlays=true
python jobs/explain.py <bundle> "condition=motion_blur(level=2);pgd(eps=1/255)" target=4 checks=true
"""

import sys

from fundusray.command import main
from fundusray.jobs.explaining import explain

if __name__ == "__main__":
    sys.exit(main(__doc__, explain, sys.argv[1:]))
