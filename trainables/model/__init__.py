"""A trained model in use: `load_model(path).predict(images)`, without Ray, Optuna, pandas, pyarrow or Accelerate."""

from trainables.model.saved import Model, Prediction, load_model

__all__ = ["Model", "Prediction", "load_model"]
