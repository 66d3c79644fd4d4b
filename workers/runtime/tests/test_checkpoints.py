"""When checkpoints are due."""

from __future__ import annotations

from itertools import pairwise

import pytest

from runtime.checkpoints import WRITING_SHARE, CheckpointClock


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "writing"), [(30, 17), (30, 0.1), (600, 17), (0.5, 40)])
def test_checkpoints_come_at_their_interval_and_take_a_small_share_of_the_time(seconds: float, writing: float) -> None:
    time = Time()
    clock = CheckpointClock(seconds, time)
    begun = []
    while len(begun) < 30:
        time.now += 0.25  # a step
        if clock.due():
            begun.append(time.now)
            time.now += writing
            clock.restart()
    assert seconds <= begun[0] <= seconds + 0.25
    between = [later - earlier - writing for earlier, later in pairwise(begun)]
    expected = max(seconds, writing * (1 / WRITING_SHARE - 1))
    assert all(expected - 1e-6 <= each <= expected + 0.25 + 1e-6 for each in between)
    assert (len(begun) - 1) * writing / (begun[-1] - begun[0]) <= WRITING_SHARE + 1e-9


def test_0_seconds_are_a_checkpoint_after_each_step() -> None:
    time = Time()
    clock = CheckpointClock(0, time)
    for _ in range(3):
        assert clock.due()
        time.now += 100
        clock.restart()
