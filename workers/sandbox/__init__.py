"""The sandbox: runs untrusted Python programs against tests. `python -m sandbox` is the service."""
