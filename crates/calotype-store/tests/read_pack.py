#!/usr/bin/env python3
"""Lists the chunks of a pack, knowing nothing but docs/store-format.md.

usage: read_pack.py PACK            prints: id offset stored plain codec, one chunk per line
"""
import struct
import sys

HEADER = struct.Struct("<8sII")
ENTRY = struct.Struct("<4sIIB3x32s16s")
RECORD = struct.Struct("<32sIIIB3x16s")
TRAILER = struct.Struct("<QII32sQ8s")


def read_pack(path):
    with open(path, "rb") as file:
        pack = file.read()
    magic, version, _ = HEADER.unpack_from(pack)
    assert (magic, version) == (b"CALOPACK", 2), "not a pack of version 2"
    end = len(pack) - TRAILER.size
    offset, count, version, _checksum, _, magic = TRAILER.unpack_from(pack, end)
    assert (magic, version) == (b"CALOEND\n", 2), "no trailer"
    assert offset + count * RECORD.size == end, "the records do not end at the trailer"
    position = HEADER.size
    for id, at, stored, plain, codec, checksum in RECORD.iter_unpack(pack[offset:end]):
        # The entry in front of the payload says the same, and entries leave no gap.
        assert at == position + ENTRY.size, "gap between entries"
        entry = ENTRY.unpack_from(pack, position)
        assert entry == (b"CHNK", stored, plain, codec, id, checksum), "entry and record differ"
        assert plain in (65536, 8192), "neither data nor node"
        assert stored == plain if codec == 0 else codec == 1 and stored < plain
        position = at + stored
        yield id.hex(), at, stored, plain, ("raw", "zstd")[codec]
    assert position == offset, "bytes between entries and records"


if __name__ == "__main__":
    for chunk in read_pack(sys.argv[1]):
        print(*chunk)
