"""Places documents come from: listing them in order, reading one, and who may read each.

`folder.py` reads a folder, `access_files.py` its `ACCESS.yaml` files, `listed.py` is what a listing yields, `open.py`
goes from a declaration to a source. Called by `index` and `affinage source`; knows nothing of formats or the ledger.
"""

from affinage.documents.sources.folder import FolderSource
from affinage.documents.sources.listed import Listed, Signature
from affinage.documents.sources.open import allow_of, open_source

__all__ = ["FolderSource", "Listed", "Signature", "allow_of", "open_source"]
