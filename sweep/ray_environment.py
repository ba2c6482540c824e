"""Settings that Ray reads from the environment when it is imported: to be imported before Ray is."""

from __future__ import annotations

import os

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ.setdefault("RAY_DEDUP_LOGS", "1")
# Trials at the niceness of the sweep's command, which measured what they cost. Ray's own 15 gives them a twentieth of a
# processor where anything else runs.
os.environ.setdefault("RAY_worker_niceness", "0")
