"""MLflow's artifact repositories on a content-addressed store."""
