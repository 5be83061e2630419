"""Where user code runs: shell, output, interrupts, functions. Knows nothing of sockets."""
