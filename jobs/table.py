"""Run a paper's table and show it beside the published one; without a name, list the tables.

python jobs/table.py wu.table5 scale=small data.source=eyepacs data.root=/data/eyepacs
ray job submit --working-dir . -- python jobs/table.py wu.table5 data.root=/data/eyepacs

  scale=small       paper (as published), small (a laptop), tiny (seconds, drawn photographs)
  rows=baseline,focal_*   some rows only     baseline=<row>   what differences are to
  size= epochs= batch= images=   other figures than the scale's: side of the largest images, epochs
                    for every 20 published ones, batch, training images at most
  network=efficientnet_lite0   in every row, from its ImageNet weights where the row's has its own
  start=<bundle>    in place of ImageNet weights; several with commas, one per network
  repeats=3         trainings of every row, with a seed each on one split: verdicts on methods
  at_once=2         rows side by side        hourly=0.9       price of a worker's hour
"""

import sys

from fundusray.command import main
from fundusray.jobs.paper_tables import table

if __name__ == "__main__":
    sys.exit(main(__doc__, table, sys.argv[1:]))
