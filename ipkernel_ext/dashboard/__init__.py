"""A web page of a running cluster, and what it shares with ``ipcluster top``.

Pure: ``state`` (what was seen, as rows, and what changed in them), ``stream`` (ended tasks, as blocks on a line of
time), ``metrics`` (text for Prometheus), ``access`` (who is let in), ``page`` (one file of the three in ``static``).
Thin: ``looking`` (a client that asks the cluster), ``feed`` (one look for all pages that are open), ``app`` (what is
answered over HTTP) and ``serving`` (a process of its own; ``embedding`` starts one for a client).
Nothing of it runs in the controller, and what it needs of starlette and uvicorn is imported in ``app`` and
``serving`` alone.
"""
