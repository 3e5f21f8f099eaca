"""The file in which wandb keeps a run: records in pieces in blocks, as LevelDB writes its log."""

import struct
import zlib
from collections.abc import Iterable, Iterator

BLOCK, HEAD, FILE_HEAD = 32768, 7, 7
"""Bytes: of a block of the file, of the head of a piece in it (checksum, length, kind), and before the first block."""
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
"""Kinds of pieces."""


def records(content: bytes) -> Iterator[bytes]:
    """The records of a file; a torn end is left out."""
    at, pieces = FILE_HEAD, b""
    while at + HEAD <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEAD:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEAD])
        piece = content[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if len(piece) < length or kind == 0:
            return
        pieces += piece
        if kind in (WHOLE, LAST):
            yield pieces
            pieces = b""


def packed(head: bytes, kept: Iterable[bytes]) -> bytes:
    """A file of the records ``kept``; ``head`` is what another one begins with."""
    content = bytearray(head[:FILE_HEAD])
    for record in kept:
        left, begun = record, False
        while left or not begun:
            room = BLOCK - len(content) % BLOCK
            if room < HEAD:
                content += b"\0" * room
                continue
            piece, left = left[: room - HEAD], left[room - HEAD :]
            kind = (MIDDLE if left else LAST) if begun else (FIRST if left else WHOLE)
            checksum = zlib.crc32(bytes([kind]) + piece)
            content += struct.pack("<IHB", checksum, len(piece), kind) + piece
            begun = True
    return bytes(content)
