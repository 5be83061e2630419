"""Sockets, files and threads around the pure cores: thin shells, one loop shape.

Each shell waits for its sockets or the core's next deadline, hands what came to the core, and does
the effects it returns. What to do is never decided here.
"""
