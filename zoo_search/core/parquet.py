"""Parquet and Arrow files that may be somebody else's, read without running what they name.

Arrow calls the Python class that is registered for an extension type when it meets one: some make
the type from bytes of the file, which is before any value is read, and ``ray.data`` registers one
whose values are pickles. So the schema is looked at as bytes first, in the process that reads.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from zoo_search.core.errors import UserError, some

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_SCHEMA = b"ARROW:schema"  # of a footer's metadata; the value is a message of Arrow in base64
_EXTENSION = b"ARROW:extension:name"  # of a field's metadata
_PLAIN = b"ARROW:extension_name"  # the same length, and no meaning: the field is its storage
_MAGIC, _CONTINUES = b"PAR1", b"\xff\xff\xff\xff"


def open_parquet(source: bytes | IO[bytes], name: str) -> pq.ParquetFile:
    """Open a Parquet file (its bytes, or a seekable stream) whose columns are plain values.

    Raises:
        UserError: If any column, however deep, has an extension type; ``name`` is what the file is
            called there.
        pa.ArrowException, OSError: If it is no Parquet file, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = pa.BufferReader(source) if isinstance(source, bytes) else source
    for message in _schemas_in(_footer(stream), name):
        _refuse_message(message, name)
    stream.seek(0)
    # Columns that Parquet itself calls JSON or UUID come as the bytes that they are. A page that
    # has a checksum is compared with it.
    file = pq.ParquetFile(stream, arrow_extensions_enabled=False, page_checksum_verification=True)
    refuse_extensions(file.schema_arrow, name)
    return file


def check_arrow_stream(stream: IO[bytes], name: str) -> None:
    """Refuse a file in Arrow's stream format whose schema, its first message, has extension types.

    Raises:
        UserError: As :func:`open_parquet`, or if there is no such message.
    """
    head = stream.read(4)
    size = int.from_bytes(stream.read(4) if head == _CONTINUES else head, "little")
    message = stream.read(max(0, min(size, 2**26)))
    if not size or len(message) < size:
        raise UserError(f"{name} is no Arrow file in the stream format. Write it again.")
    _refuse_message(_CONTINUES + size.to_bytes(4, "little") + message, name)


def refuse_extensions(schema: pa.Schema, name: str) -> None:
    """Refuse a schema with an extension type.

    Raises:
        UserError: Names the columns and their types.
    """
    import pyarrow as pa

    found = [
        f"'{place}' ({field.type.extension_name})"
        for place, field in _fields(schema)
        if isinstance(field.type, pa.BaseExtensionType)
    ]
    if found:
        raise _refusal(name, some(found, ", ", " and"))


def _footer(stream: IO[bytes]) -> bytes:
    """Return the metadata at the end of a Parquet file; empty where Arrow will find none either."""
    stream.seek(0, io.SEEK_END)
    end = stream.tell()
    stream.seek(max(0, end - 8))
    tail = stream.read(8)
    size = int.from_bytes(tail[:4], "little")
    if len(tail) < 8 or tail[4:] != _MAGIC or size > end - 8:
        return b""
    stream.seek(end - 8 - size)
    return stream.read(size)


def _schemas_in(footer: bytes, name: str) -> Iterator[bytes]:
    """Yield each schema of Arrow in a footer.

    The footer is a Thrift structure in compact form, where a key and its value stand as
    ``18 LENGTH KEY 18 LENGTH VALUE 00``. It need not be parsed for that: every place where the key
    stands has to look so, else the file is refused.
    """
    at = footer.find(_SCHEMA)
    while at >= 0:
        at += len(_SCHEMA)
        size, start = _varint(footer, at + 1)
        value = footer[start : start + size]
        ended = footer[start + size : start + size + 1]
        try:
            if footer[at : at + 1] != b"\x18" or len(value) < size or ended != b"\x00":
                raise ValueError
            yield base64.b64decode(value, validate=True)
        except (ValueError, binascii.Error):
            raise _refusal(name, "a schema that cannot be read") from None
        at = footer.find(_SCHEMA, at)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned integer in groups of seven bits, lowest first, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 35:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            break
    return value, at


def _refuse_message(message: bytes, name: str) -> None:
    """Refuse a message of Arrow with a schema that has an extension type anywhere."""
    import pyarrow as pa

    if _EXTENSION not in message:
        return
    found = []
    try:
        # Under another key the types are those of the storage, and no class is asked.
        schema = pa.ipc.read_schema(pa.py_buffer(message.replace(_EXTENSION, _PLAIN)))
        for place, field in _fields(schema):
            kind = (field.metadata or {}).get(_PLAIN)
            found += [f"'{place}' ({kind.decode(errors='replace')})"] if kind is not None else []
    except pa.ArrowException:
        pass
    raise _refusal(name, some(found, ", ", " and") or "a schema that cannot be read")


def _fields(schema: pa.Schema) -> Iterator[tuple[str, pa.Field]]:
    """Yield every field of a schema, those inside others too, with its place."""
    import pyarrow as pa

    rest = [(field.name, field) for field in reversed(schema)]
    while rest:
        place, field = rest.pop()
        yield place, field
        kind = field.type
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        if pa.types.is_dictionary(kind):
            rest.append((place, pa.field(field.name, kind.value_type)))
        inside = [kind.field(i) for i in range(kind.num_fields)]
        rest += [(f"{place}.{child.name}", child) for child in reversed(inside)]


def _refusal(name: str, what: str) -> UserError:
    return UserError(
        f"{name} is refused: it holds {what}. Reading values of Arrow's extension types may run "
        "code that the file brings (ray.data.arrow_pickled_object is a pickle), so that none is "
        "read. Allowed are plain columns: binary, strings, numbers, lists and structs of these. "
        "Leave the column out, or have it written as plain values."
    )
