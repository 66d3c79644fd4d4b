#!/usr/bin/env python3
"""The model runtime on this host's device, whose trainings leave a record in the file CHAOS_RECORD."""

import os
import sys
from pathlib import Path

from runtime import __main__ as runtime
from serve import serve

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))
from recorded_trainings import Record

RECORD = Record(os.environ["CHAOS_RECORD"])


def serve_recorded(operations, versions, **options):
    serve(RECORD.operations(operations), versions, **options)


if __name__ == "__main__":
    runtime.serve = serve_recorded
    runtime.main()
