"""MLflow's artifact repositories on a content-addressed store."""

# First of all: MLflow, while it is imported, loads our repository, and must not find it half imported.
import mlflow  # noqa: F401
