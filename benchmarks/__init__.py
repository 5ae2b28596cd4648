"""Benchmarks, one module for each question. All of them: ``python -m benchmarks``."""
