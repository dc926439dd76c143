"""``leadscrub`` that gets a signal at a point: SIGNAL POINT AT, then the command's own arguments."""

import os
import signal
import sys
from collections import Counter

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.cli import main


def run() -> None:
    name, point, at, *arguments = sys.argv[1:]
    counted: Counter[str] = Counter()

    def at_point(reached: str) -> None:
        counted[reached] += 1
        if (reached, counted[reached]) == (point, int(at)):
            os.kill(os.getpid(), signal.Signals[name])

    failpoints.arm(at_point)
    sys.argv = ["leadscrub", *arguments]
    main()


if __name__ == "__main__":
    run()
