"""Which network's images fool which other one: every bundle is attacked along every bundle's
gradients, on photographs that are new to all of them.

python jobs/transfer.py <bundle> <bundle> <bundle> "attack=pgd(eps=2/255, steps=20)"
python jobs/transfer.py <bundle> <bundle> "attack=pgd(eps=1/255|2/255, keep=last)" attack.rows=480
python jobs/transfer.py <bundle> <bundle> "attack=pgd(eps=2/255)" data=/data/other_eyes
"""

import sys

from fundusray.command import main
from fundusray.jobs.transferring import transfer

if __name__ == "__main__":
    sys.exit(main(__doc__, transfer, sys.argv[1:]))
