"""Points become rows, each of which a run has wholly or not at all."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from send import Row, missing, rows_of


def point(tag: str, step: int, value: float = 1.0) -> dict:
    return {"tag": tag, "step": step, "value": value, "time": 0}


def test_points_of_a_part_and_a_step_are_one_row():
    rows = rows_of(
        [point("reinforcement/reward", 1, 0.25), point("reinforcement/kl", 1), point("filtering/questions", 0)]
    )
    assert rows == [
        Row("reinforcement", 1, {"reinforcement/reward": 0.25, "reinforcement/kl": 1.0}),
        Row("filtering", 0, {"filtering/questions": 1.0}),
    ]


def test_the_steps_of_a_part_are_in_order_whatever_the_order_of_its_points():
    rows = rows_of(
        [point("rewardModel/loss", 2), point("rewardModel/loss", 4), point("rewardModel/heldOutAccuracy", 0)]
    )
    assert [row.step for row in rows] == [0, 2, 4]


def test_what_a_run_has_is_not_missing():
    rows = rows_of([point("rewardModel/loss", 2), point("reinforcement/kl", 1), point("reinforcement/kl", 2)])
    assert missing(rows, {"reinforcement": 1, "rewardModel": 2}) == [rows[2]]
    assert missing(rows, {}) == rows
