"""The estimators a project may ask for: an explicit table, each with defaults that were measured (docs/cloud.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry_cloud.errors import ConfigError

DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden_layer_sizes": [256], "alpha": 0.01, "batch_size": 128, "max_iter": 30},
    "forest": {"n_estimators": 100, "min_samples_leaf": 1, "n_jobs": 1},
    "logistic": {"C": 1.0, "max_iter": 200},
}


def make(trainer: str, parameters: dict[str, Any], seed: int) -> Any:
    """Return an unfitted scikit-learn classifier.

    Raises:
        ConfigError: no such trainer, or it has no such parameter.
    """
    makers: dict[str, Callable[..., Any]] = {"mlp": _mlp, "forest": _forest, "logistic": _logistic}
    if trainer not in makers:
        raise ConfigError(f"no trainer {trainer!r}", hint=f"one of {', '.join(makers)}")
    try:
        return makers[trainer](random_state=seed, **(DEFAULTS[trainer] | parameters))
    except TypeError as error:
        raise ConfigError(
            f"trainer {trainer}: {error}", hint="parameters are those of the scikit-learn estimator"
        ) from error


def _mlp(**parameters: Any) -> Any:
    from sklearn.neural_network import MLPClassifier

    sizes = tuple(parameters.pop("hidden_layer_sizes"))
    return MLPClassifier(hidden_layer_sizes=sizes, **parameters)


def _forest(**parameters: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(**parameters)


def _logistic(**parameters: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**parameters)
