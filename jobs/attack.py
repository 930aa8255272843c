"""Attack a trained network on photographs that are new to it, and write what is left of it: rows,
a table by budget and class, a curve.

python jobs/attack.py runs/demo-1a2b3c4d/bundle "attack=pgd(eps=2/255, steps=20)"
python jobs/attack.py <bundle> "attack=autoattack(eps=0.5/255|1/255|2/255)" attack.rows=240
python jobs/attack.py <bundle> "attack=pgd(eps=1/255)" "condition=motion_blur(level=2)"
python jobs/attack.py <bundle> "attack=pgd(eps=2/255)" surrogate=<another bundle>
python jobs/attack.py <segmentation bundle> "attack=segpgd(eps=1/255|2/255, steps=20)"
"""

import sys

from fundusray.command import main
from fundusray.jobs.attacking import attack

if __name__ == "__main__":
    sys.exit(main(__doc__, attack, sys.argv[1:]))
