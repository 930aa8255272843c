"""Segment photographs of any size with a trained network, tile by tile: a class map of each in its
own pixels, areas, a sheet and a page. Photographs are files, or folders of them.

python jobs/segment.py runs/lesions-1a2b3c4d/bundle eye.jpg /data/eyes
python jobs/segment.py <bundle> /data/eyes segment.scale=photograph segment.tile=512
python jobs/segment.py <bundle> eye.jpg segment.overlap=0.5 run.storage=/data/runs
"""

import sys

from fundusray.command import main
from fundusray.jobs.segmenting import segment

if __name__ == "__main__":
    sys.exit(main(__doc__, segment, sys.argv[1:]))
