"""Places documents come from: listing them in order, reading one, and who may read each.

`protocol.py` is what every place can do, `listed.py` what a listing yields; `folder.py`, `s3.py`, `sql.py` and `web.py` are the
kinds, `access_files.py` reads a folder's `ACCESS.yaml`, `granted.py` and `egress.py` decide, `open.py` goes from a declaration
to a source. Called by `index` and `affinage source`; knows nothing of formats or the ledger.
"""

from affinage.documents.sources.folder import FolderSource
from affinage.documents.sources.listed import Listed, Signature
from affinage.documents.sources.open import Places, allow_of
from affinage.documents.sources.protocol import Source

__all__ = ["FolderSource", "Listed", "Places", "Signature", "Source", "allow_of"]
