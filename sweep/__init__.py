"""Many trials: Ray Tune, Optuna and W&B around a journal. Import the modules; the package itself loads nothing."""
