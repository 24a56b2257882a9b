"""``python -m monitor`` is ``vad-monitor``."""

import sys

from monitor.cli import main

sys.exit(main())
