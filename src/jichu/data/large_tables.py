"""Tables that may be larger than memory."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable

import pyarrow as pa

from jichu.core.files import cache_folder

LARGE = 2**28  # bytes from which a table that is read is kept on disk


def gathered(schema: pa.Schema, batches: Iterable[pa.RecordBatch], size: int) -> pa.Table:
    """One table of the batches; where their `size` in bytes is large it lies in a file without a name, which
    is mapped into memory and gone when the table is."""
    if size < LARGE:
        return pa.Table.from_batches(list(batches), schema)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        with pa.ipc.new_file(pa.PythonFile(file, "w"), schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(area))).read_all()
