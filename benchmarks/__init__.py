"""Our figures beside a bare ZeroMQ broker, measured in one run and given as ratios."""
