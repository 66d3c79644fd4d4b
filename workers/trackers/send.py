"""
Gives points to Weights & Biases or trackio by the client of the package: `send.py TRACKER PROJECT RUN_ID NAME`.

Points come on standard input as JSON Lines {tag, step, value, time}. Points of one part of the chain and one step are
one row, such as all figures of an RL round, so a run has a row wholly or not at all. The last line of standard output
is {"sent": N}. `activities/tracking/client-tracker.ts` runs this in an environment of the tracker's own.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Row:
    """Values of one part of the chain (`reinforcement`) at one step (a round)."""

    part: str
    step: int
    values: dict[str, float] = field(default_factory=dict)


def rows_of(points: Iterable[dict]) -> list[Row]:
    """Points as rows: parts in the order in which they come, and the steps of a part in theirs."""
    rows: dict[tuple[str, int], Row] = {}
    parts: dict[str, int] = {}
    for point in points:
        part = point["tag"].split("/")[0]
        parts.setdefault(part, len(parts))
        row = rows.setdefault((part, point["step"]), Row(part, point["step"]))
        row.values[point["tag"]] = point["value"]
    return sorted(rows.values(), key=lambda row: (parts[row.part], row.step))


def missing(rows: list[Row], last: dict[str, int]) -> list[Row]:
    """The rows that come after the last step of their part."""
    return [row for row in rows if row.step > last.get(row.part, -1)]


def to_wandb(project: str, run_id: str, name: str, rows: list[Row]) -> list[Row]:
    """
    One run of W&B. Online it is resumed, and its summary says which steps it has. Offline nothing of an earlier run is
    known to the client, and `wandb sync` puts a folder in the place of what the server has: so a folder has all rows,
    and earlier ones of the run go.
    """
    import wandb

    run = wandb.init(
        project=project, id=run_id, name=name, resume="allow", settings=wandb.Settings(silent=True, console="off")
    )
    offline = run.settings._offline
    last = {} if offline else {row.part: int(run.summary.get(f"{row.part}/step", -1)) for row in rows}
    for part in {row.part: None for row in rows}:
        run.define_metric(f"{part}/step", hidden=True)
        run.define_metric(f"{part}/*", step_metric=f"{part}/step")
    sent = missing(rows, last)
    for row in sent:
        run.log({**row.values, f"{row.part}/step": row.step})
    own = Path(run.settings.sync_dir)
    run.finish()
    if offline:
        for folder in own.parent.glob(f"offline-run-*-{run_id}"):
            if folder != own:
                shutil.rmtree(folder)
    return sent


def to_trackio(project: str, run_id: str, name: str, rows: list[Row]) -> list[Row]:
    """One run of trackio in the store of this host, which says which steps the run has."""
    for variable in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        if os.environ.get(variable):
            sys.exit(f"{variable} is set, and points are written to the store of this host alone: unset it")
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    def lacking() -> list[Row]:
        last: dict[str, int] = {}
        for log in SQLiteStorage.get_logs(project, name):
            for part in {tag.split("/")[0] for tag in log if "/" in tag}:
                last[part] = max(last.get(part, -1), int(log["step"]))
        return missing(rows, last)

    sent = lacking()
    if not sent:
        return []
    trackio.init(project=project, name=name, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False)
    for row in sent:
        trackio.log(row.values, step=row.step)
    trackio.finish()
    # What cannot be stored is a warning to the client, and no failure.
    if lost := lacking():
        sys.exit(f"trackio has not stored {len(lost)} of {len(sent)} rows")
    return sent


TRACKERS = {"wandb": to_wandb, "trackio": to_trackio}


def main() -> None:
    tracker, project, run_id, name = sys.argv[1:]
    rows = rows_of(json.loads(line) for line in sys.stdin)
    sent = TRACKERS[tracker](project, run_id, name, rows)
    print(json.dumps({"sent": sum(len(row.values) for row in sent)}))


if __name__ == "__main__":
    main()
