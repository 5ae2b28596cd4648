"""A content-addressed weight cache: blobs kept once, manifests that name them, on a local disk or an object store.

store = cas.Store.create("/srv/models")
root = store.artifact_root("demo")
root.ingest_tree("checkpoint/", "model")
root.checkout("model", "/tmp/somewhere")
"""

from cas.artifact_root import ArtifactRoot
from cas.checkout import CheckoutReport
from cas.digest import Digest
from cas.errors import CasError
from cas.links import Mode
from cas.manifest import Entry, Listed, Manifest
from cas.settings import Settings
from cas.store import Store

__version__ = "0.1.0"

__all__ = [
    "ArtifactRoot",
    "CasError",
    "CheckoutReport",
    "Digest",
    "Entry",
    "Listed",
    "Manifest",
    "Mode",
    "Settings",
    "Store",
    "__version__",
]
