"""How much one document may hold. Every limit is a refusal with a reason, never a silent cut."""

MAX_BYTES = 64 * 1024 * 1024
# Of a file. A text of this size is extracted in some seconds and a few hundred MB of memory.

MAX_CHARACTERS = 64 * 1024 * 1024
# Of the extracted text: a compressed format can hold far more than its file.

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
# Of a zipped format, all parts together, images included.

MAX_UNPACKED_XML_BYTES = 64 * 1024 * 1024
# Of the parts that are parsed into a tree: it takes some ten times their size in memory. A thousand pages are 10 MB.

MAX_PAGES = 10_000
# Of a PDF.

MAX_MEMORY_BYTES = 2 * 1024**3
# Of the process that reads a document, its libraries included (address space): texts of 60 MB were seen to take 1.4 GB.

MAX_SILENT_SECONDS = 120.0
# Without a page, or a piece of a long text, done: a loop that never ends. A slow machine needs some seconds for one.

MAX_SECONDS = 3600.0
# For one document, whatever it reports: a thousand scanned pages.

MAX_REPLY_BYTES = 1024**3
# Of what the process answers: the longest text, twice, in the widest characters.
