"""MLflow's side: what its clients, its server, its command line and its user interface do with a store."""

import pytest

for _module in ("repository_behaviour", "stream_behaviour", "trace_behaviour"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
