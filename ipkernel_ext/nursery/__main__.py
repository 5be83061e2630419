"""``python -m ipkernel_ext.nursery`` is an agent; its orders come on standard input.

Its first children start before it imports what it needs itself, so that all three start side by side.
"""

import gc

from ipkernel_ext.nursery.orders import first_line
from ipkernel_ext.nursery.starters import Controller, Forker

orders = first_line()
forker = Forker(orders) if orders["start_method"] == "fork" and orders["launch"] is None else None
controller = None if orders["adopt"] else Controller(orders)

gc.disable()  # what is imported is no garbage
from ipkernel_ext.nursery.agent import main  # noqa: E402

gc.enable()

main(orders, controller, forker)
