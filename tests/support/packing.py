"""MessagePack, as much of it as the protocol uses: nil, bool, integers, floats, str, bin, arrays, maps.

Ownership: none, pure functions.
Units: bytes.
Errors: ValueError for what is not one whole value, or has a type that is not used.
Callers: any.
"""

import struct

DEPTH_MAX = 32


def packb(value):
    out = bytearray()
    _pack(out, value)
    return bytes(out)


def _head(out, count, tags):
    """tags: [(first count that is too large, format, tag), ...]"""
    for limit, form, base in tags:
        if count < limit:
            out += struct.pack(form, base | count) if form == ">B" else struct.pack(form, base, count)
            return
    raise ValueError("too long")


def _pack(out, value):
    if value is None or value is False or value is True:
        out.append({None: 0xc0, False: 0xc2, True: 0xc3}[value])
    elif isinstance(value, int):
        _pack_int(out, value)
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xcb, value)
    elif isinstance(value, str):
        data = value.encode("utf-8")
        _head(out, len(data), ((32, ">B", 0xa0), (1 << 8, ">BB", 0xd9), (1 << 16, ">BH", 0xda), (1 << 32, ">BI", 0xdb)))
        out += data
    elif isinstance(value, (bytes, bytearray)):
        _head(out, len(value), ((1 << 8, ">BB", 0xc4), (1 << 16, ">BH", 0xc5), (1 << 32, ">BI", 0xc6)))
        out += value
    elif isinstance(value, (list, tuple)):
        _head(out, len(value), ((16, ">B", 0x90), (1 << 16, ">BH", 0xdc), (1 << 32, ">BI", 0xdd)))
        for item in value:
            _pack(out, item)
    elif isinstance(value, dict):
        _head(out, len(value), ((16, ">B", 0x80), (1 << 16, ">BH", 0xde), (1 << 32, ">BI", 0xdf)))
        for key, item in value.items():
            _pack(out, key)
            _pack(out, item)
    else:
        raise ValueError(f"cannot pack {type(value).__name__}")


def _pack_int(out, value):
    if -32 <= value < 128:
        out += struct.pack(">b" if value < 0 else ">B", value)
    elif value >= 0:
        _head(out, value, ((1 << 8, ">BB", 0xcc), (1 << 16, ">BH", 0xcd), (1 << 32, ">BI", 0xce), (1 << 64, ">BQ", 0xcf)))
    else:
        for bits, form, tag in ((8, ">Bb", 0xd0), (16, ">Bh", 0xd1), (32, ">Bi", 0xd2), (64, ">Bq", 0xd3)):
            if value >= -(1 << bits - 1):
                out += struct.pack(form, tag, value)
                return
        raise ValueError("too small")


_SCALARS = {0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q", 0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q", 0xca: ">f",
            0xcb: ">d"}
_LENGTHS = {0xd9: (">B", "str"), 0xda: (">H", "str"), 0xdb: (">I", "str"), 0xc4: (">B", "bin"), 0xc5: (">H", "bin"),
            0xc6: (">I", "bin"), 0xdc: (">H", "array"), 0xdd: (">I", "array"), 0xde: (">H", "map"), 0xdf: (">I", "map")}


def unpackb(data):
    """The one value that data is."""
    value, at = _unpack(memoryview(data), 0, 0)
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the value")
    return value


def _unpack(data, at, depth):
    if depth > DEPTH_MAX or at >= len(data):
        raise ValueError("too deep" if depth > DEPTH_MAX else "cut")
    tag, at = data[at], at + 1
    if tag < 0x80 or tag >= 0xe0:
        return (tag if tag < 0x80 else tag - 256), at
    if tag in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[tag], at
    try:
        if tag in _SCALARS:
            return struct.unpack_from(_SCALARS[tag], data, at)[0], at + struct.calcsize(_SCALARS[tag])
        if tag < 0xc0:
            kind = "map" if tag < 0x90 else "array" if tag < 0xa0 else "str"
            count = tag & (0x1f if kind == "str" else 0x0f)
        elif tag in _LENGTHS:
            form, kind = _LENGTHS[tag]
            count, at = struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
        else:
            raise ValueError(f"tag {tag:#x} is not used")
    except struct.error as error:
        raise ValueError("cut") from error
    return _unpack_sized(data, at, depth, kind, count)


def _unpack_sized(data, at, depth, kind, count):
    if kind in ("str", "bin"):
        if count > len(data) - at:
            raise ValueError("cut")
        raw = bytes(data[at:at + count])
        return (raw.decode("utf-8") if kind == "str" else raw), at + count
    if kind == "array":
        items = []
        for _ in range(count):
            item, at = _unpack(data, at, depth + 1)
            items.append(item)
        return items, at
    entries = {}
    for _ in range(count):
        key, at = _unpack(data, at, depth + 1)
        entries[key], at = _unpack(data, at, depth + 1)
    return entries, at
