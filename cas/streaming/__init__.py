"""Getting a large file from a source: parallel ranges, verified in order behind them, resumable."""
