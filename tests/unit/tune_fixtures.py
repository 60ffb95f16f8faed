"""Reports of stage tune, with made-up figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from nextword.config import Params


def tune_report(name: str, params: Params) -> dict[str, Any]:
    """``reports/tune/NAME.json``: half of the trials go on at each rung."""
    tune = params.tune
    if name not in tune.models:
        return {"model": name, "searched": False, "settings": {}, "trials": []}
    rng = np.random.default_rng(tune.seed)
    rates, dropouts = rng.uniform(1e-3, 2e-2, tune.trials), rng.uniform(0.0, 0.4, tune.trials)
    by_rung = [tune.tokens * 2**rung for rung in range(tune.halvings + 1)]
    trials = [
        {
            "number": number,
            "learning_rate": float(rates[number]),
            "dropout": float(dropouts[number]),
            "rungs": [
                {"tokens": tokens, "valid_nats": 5.0 + 0.05 * number - 0.2 * rung}
                for rung, tokens in enumerate(by_rung)
                if number < max(1, tune.trials // 2**rung)
            ],
        }
        for number in range(tune.trials)
    ]
    spent = sum(rung["tokens"] for trial in trials for rung in trial["rungs"])
    return {
        "model": name, "searched": True, "settings": {key: trials[0][key] for key in ("learning_rate", "dropout")},
        "budget": {
            "trials": tune.trials, "halvings": tune.halvings, "tokens_by_rung": by_rung, "tokens_in_all": spent,
        },
        "trials": trials, "seconds": 12.5,
    }  # fmt: skip
