"""``python -m ipkernel_ext.nursery`` is an agent; its orders come on standard input."""

from ipkernel_ext.nursery.agent import main

main()
