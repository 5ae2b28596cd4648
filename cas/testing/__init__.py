"""The conformance suites. A new backend joins with a subclass and one fixture:

class TestMyBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return MyBackend(...)

class TestStoreOnMyBackend(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store.create(MyBackend(...))

`CollectionContract` is subclassed as `StoreContract` is.

Needs pytest, which the package itself does not.
"""

import pytest

# Before the import of what is to be rewritten: a failing assertion then shows its values.
_MODULES = (
    *("backend", "fixtures", "reading", "store", "writing"),
    *("beside", "collecting", "collection", "leftover", "needed"),
)
pytest.register_assert_rewrite(*(f"cas.testing.{module}" for module in _MODULES))

from cas.testing.backend import BackendContract  # noqa: E402
from cas.testing.collecting import CollectionContract  # noqa: E402
from cas.testing.store import StoreContract  # noqa: E402

__all__ = ["BackendContract", "CollectionContract", "StoreContract"]
