"""Resident model runtime: everything that needs torch, behind the JSON-lines service of `serve.py`.

Files in, files out: the package knows nothing of Temporal or of the object store.
"""
