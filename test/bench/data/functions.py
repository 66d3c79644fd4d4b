"""Prints functions of a source tree that run alone, as rows {id, code} of JSON Lines: those that become seeds."""

from __future__ import annotations

import json
import sys
import sysconfig

from runtime import tables

params = {"format": "sourceTree", "path": sysconfig.get_path("stdlib"), "kind": "seeds", "heldOutShare": 0}
_, rows = tables.tree_seeds(params, tables.Drops())  # pyright: ignore[reportArgumentType]
for row in rows:
    print(json.dumps({"id": row["id"], "code": row["code"]}))
sys.exit(0)
