"""``python -m demo``: runs the show, then keeps everything running until Ctrl-C. ``--once`` ends after the show."""

import sys

from demo.show import main

sys.exit(main())
