import pytest
pytest.register_assert_rewrite("cas.testing.backend")
from cas.testing.backend import BackendContract
