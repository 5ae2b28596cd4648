"""What tests stand on: a Hub on loopback, tiny real models, and a real MLflow server."""
