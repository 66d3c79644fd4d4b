"""The learning rate of RL: constant after a warm-up that may reach over rounds."""

from __future__ import annotations

from operations import WarmUp


def warmed_up(index: int, steps: int, warm_up: WarmUp | None) -> float:
    """Share of the peak learning rate at step `index`, from 0, of the `steps` of a round.

    A round counts as one of `rounds`, however many steps it has, because rollouts are dropped and steps with them. With
    x = round - 1 + (index + 1) / steps, the rounds done after this step, the share is min(1, x / (ratio * rounds)).
    Where all rounds have the same number of steps, that is the linear warm-up of transformers over ratio of all steps,
    whose first step is not 0 but the one behind it. OpenRLHF and the authors' fork have a ratio of 0.03.

    Example: `warmed_up(0, 2, {"ratio": 0.5, "round": 1, "rounds": 4})` is 0.25.
    """
    if warm_up is None or warm_up["ratio"] == 0:
        return 1.0
    done = warm_up["round"] - 1 + (index + 1) / steps
    return min(1.0, done / (warm_up["ratio"] * warm_up["rounds"]))
