"""``python -m leadscrub_pipeline.simulators``: the simulators in a process of their own."""

import sys

from leadscrub_pipeline.simulators.process import main

if __name__ == "__main__":
    sys.exit(main())
