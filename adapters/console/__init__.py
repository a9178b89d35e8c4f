"""What the command line does: each module is one subject, and prints nothing by itself."""

import gc

# Before the rest is loaded: that makes 200,000 objects which all stay, and to look through them for cycles time and again is a
# fifth of the start. Nor later are frames and points, which come and go by the ten thousand, freed by the collector, while each
# look at everything that lives would stop the server for tens of milliseconds.
gc.set_threshold(50_000, 20, 50)
