"""Studies: a grid of runs, recorded in Optuna, every cell of which ends as a row."""
