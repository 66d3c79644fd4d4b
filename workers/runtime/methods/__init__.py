"""The methods of the policy update, found by the name that a configuration gives.

A method is one file of this folder, which imports torch and `methods/base.py` alone, and one line of `FILES`. This
module imports no torch: `python -m runtime --describe` prints its names and settings at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.methods.base import Method

FILES: Mapping[str, str] = {
    "reinforce++": "reinforce_pp",
    "reinforce++-acecoder": "reinforce_pp_acecoder",
    "grpo": "grpo",
    "rloo": "rloo",
    "dr-grpo": "dr_grpo",
    "dapo": "dapo",
}
"""The file of each method, without its ending, by the public name."""

SETTINGS = (
    "name",
    "learningRate",
    "beta",
    "clip",
    "clipHigh",
    "rewardClip",
    "batchSize",
    "epochs",
    "upperLayers",
    "lora",
    "endWeight",
    "warmupRatio",
    "maxGradNorm",
)
"""The settings that a configuration gives a method, whichever it is."""


def find_method(name: str) -> Method:
    """The method with that public name. Raises `KeyError` for an unknown one."""
    return importlib.import_module(f"runtime.methods.{FILES[name]}").METHOD


def describe() -> dict[str, Any]:
    """{methods, settings}: the lists that the configuration's schema must equal."""
    return {"methods": list(FILES), "settings": list(SETTINGS)}
