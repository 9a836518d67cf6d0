"""JSON texts and whether RFC 8259 (and docs/HTTP.md, where it leaves a choice) takes them.

Ownership: none, tables.
Units: none.
Errors: none.
Callers: bodies.py.

NUMBERS, STRINGS, STRUCTURES: name -> text of one value, all good.
BROKEN: name -> bytes that are no JSON value, wherever a value stands.
BROKEN_WHOLE: name -> bytes that are wrong as a whole text only.
"""

DEPTH_MAX = 32

NUMBERS = {
    "0": "0", "minus-0": "-0", "1": "1", "minus-1": "-1", "10": "10", "100": "100", "1.0": "1.0", "0.1": "0.1", "minus-0.1": "-0.1",
    "1.50": "1.50", "1e0": "1e0", "1E0": "1E0", "1e+1": "1e+1", "1e-1": "1e-1", "1.5e10": "1.5e10", "0e0": "0e0",
    "0.0e-0": "0.0e-0",
    "1e01": "1e01", "1e00000": "1e00000", "int-64": "9223372036854775807", "int-64-and-1": "9223372036854775808",
    "minus-2^63": "-9223372036854775808", "minus-2^63-1": "-9223372036854775809", "uint-64": "18446744073709551615",
    "2^64": "18446744073709551616", "2^53+1": "9007199254740993", "100-digits": "1" * 100, "1000-digits": "9" * 1000,
    "1000-behind-point": "0." + "3" * 1000, "1e308": "1e308", "1e309": "1e309", "1e999": "1e999", "minus-1e999": "-1e999",
    "1e-999": "1e-999", "exponent-huge": "1e" + "9" * 50, "denormal": "5e-324", "pi": "3.141592653589793238462643383279502884197",
    "double-rounding": "0.1000000000000000055511151231257827", "zeros": "0." + "0" * 300 + "1",
}
STRINGS = {
    "empty": '""', "letter": '"a"', "blank": '" "', "escapes": r'"\"\\\/\b\f\n\r\t"', "u-ascii": r'"\u0041"',
    "u-upper": r'"\u00C4"',
    "u-lower": r'"\u00e4"', "u-0000": r'"\u0000"', "u-001f": r'"\u001f"', "u-pair": r'"\ud83d\ude00"',
    "u-pair-upper": r'"\uD83D\uDE00"',
    "u-first-pair": r'"\ud800\udc00"', "u-last-pair": r'"\udbff\udfff"', "u-ffff": r'"\uffff"', "u-fffe": r'"\ufffe"',
    "u-feff": r'"\ufeff"',
    "u-2028": r'"\u2028\u2029"', "u-before-surrogates": r'"\ud7ff"', "u-behind-surrogates": r'"\ue000"', "utf8-2": '"\u00e4"',
    "utf8-3": '"\u20ac"', "utf8-4": '"\U0001f600"', "utf8-largest": '"\U0010ffff"', "utf8-2028": '"\u2028"', "utf8-bom": '"\ufeff"',
    "del": '"\x7f"', "c1": '"\u0085"', "slash": '"/"', "slash-escaped": r'"\/"', "quotes": r'"\"\""', "backslashes": r'"\\\\\\"',
    "backslash-u": r'"\\u0041"', "json-inside": r'"{\"a\":[1]}"', "braces": '"{}[],:"', "noncharacter": '"\ufffe"',
    "combining": '"e\u0301"',
    "bidi": '"\u202e"', "long": '"' + "x" * 20000 + '"', "long-escapes": '"' + r"\u00e4" * 3000 + '"', "31": '"' + "y" * 31 + '"',
    "32": '"' + "y" * 32 + '"', "255": '"' + "y" * 255 + '"', "256": '"' + "y" * 256 + '"', "65535": '"' + "y" * 65535 + '"',
    "65536": '"' + "y" * 65536 + '"', "16-and-escape": '"' + "z" * 16 + r'\n"', "15-and-escape": '"' + "z" * 15 + r'\n"',
}
STRUCTURES = {
    "null": "null", "true": "true", "false": "false", "array-empty": "[]", "object-empty": "{}", "array-blank": "[ ]",
    "object-blank": "{ }",
    "array": "[1,2]", "array-mixed": '[1,"a",null,true,{},[]]', "object": '{"a":1}', "object-two": '{"a":1,"b":2}',
    "nested": '{"a":{"b":[{}]}}',
    "blanks": ' [ 1 , { "a" : 2 } ] ', "tabs": '\t[\t1\t,\t2\t]\t', "lines": '[\n1,\r\n2\r]', "name-empty": '{"":1}',
    "name-blank": '{" ":1}',
    "name-escaped": r'{"\u0061":1}', "name-nul": r'{"\u0000":1}', "name-utf8": '{"\u00e4":1}', "name-pair": r'{"\ud83d\ude00":1}',
    "name-twice": '{"a":1,"a":2}', "name-twice-deep": '{"x":{"a":1,"a":1}}', "name-twice-escaped": r'{"a":1,"\u0061":2}',
    "name-proto": '{"__proto__":{"a":1}}', "name-1000": '{"' + "n" * 1000 + '":1}',
    "names-1000": "{" + ",".join(f'"{i}":{i}' for i in range(1000)) + "}",
    "array-1000": "[" + ",".join("0" * 1 for _ in range(1000)) + "]", "arrays-of-empties": "[" + ",".join(["[]"] * 500) + "]",
    "depth-10": "[" * 10 + "]" * 10, "depth-30": "[" * 30 + "1" + "]" * 30, "depth-30-objects": '{"a":' * 30 + "1" + "}" * 30,
    "depth-30-wide": "[" * 30 + ",".join(["{}"] * 50).replace("{}", "1") + "]" * 30,
}

BROKEN = {
    # numbers
    "plus": b"+1", "zero-before": b"01", "zeros": b"00", "minus-zero-before": b"-01", "point-first": b".5", "point-last": b"1.",
    "point-only": b".",
    "minus-only": b"-", "minus-twice": b"--1", "minus-point": b"-.5", "exponent-empty": b"1e", "exponent-plus": b"1e+",
    "exponent-minus": b"1e-",
    "exponent-point": b"1e1.5", "exponent-first": b"e1", "two-points": b"1.2.3", "point-exponent": b"1.e1", "hex": b"0x1f",
    "octal": b"0o17",
    "binary": b"0b1", "underscore": b"1_000", "comma-inside": b"1 000", "nan": b"NaN", "nan-lower": b"nan", "minus-nan": b"-NaN",
    "infinity": b"Infinity", "minus-infinity": b"-Infinity", "inf": b"inf", "suffix-l": b"1L", "suffix-n": b"1n",
    "fullwidth": "\uff11".encode(),
    "minus-blank": b"- 1", "exponent-twice": b"1e1e1", "unicode-minus": "\u22121".encode(), "dollar": b"$1",
    # words
    "true-upper": b"True", "true-caps": b"TRUE", "null-upper": b"Null", "none": b"None", "undefined": b"undefined", "tru": b"tru",
    "nul": b"nul",
    "fals": b"fals", "truee": b"truee", "nulll": b"nulll", "word": b"word", "yes": b"yes", "true-nul": b"true\0",
    "true-blank": b"tr ue",
    # strings
    "quote-open": b'"a', "quote-only": b'"', "single-quotes": b"'a'", "backticks": b"`a`", "no-quotes": b"a",
    "escape-x": rb'"\x41"',
    "escape-a": rb'"\a"', "escape-0": rb'"\0"', "escape-quote": rb'"\'"', "escape-blank": b'"\\ "', "escape-newline": b'"\\\n"',
    "escape-last": b'"\\"', "escape-u": rb'"\u"', "escape-u-1": rb'"\u1"', "escape-u-3": rb'"\u123"', "escape-u-g": rb'"\u00g0"',
    "escape-u-upper": rb'"\U0041"', "escape-u-plus": rb'"\u+041"', "escape-u-brace": rb'"\u{41}"', "escape-utf8": b'"\\\xc3\xa4"',
    "surrogate-high": rb'"\ud800"', "surrogate-low": rb'"\udc00"', "surrogate-high-end": rb'"a\ud83d"',
    "surrogate-high-letter": rb'"\ud83da"',
    "surrogate-high-high": rb'"\ud800\ud800"', "surrogate-low-high": rb'"\ude00\ud83d"', "surrogate-high-escape": rb'"\ud83d\n"',
    "surrogate-half": rb'"\ud83d\ude"', "surrogate-high-u0041": rb'"\ud83d\u0041"', "control-0": b'"\0"', "control-1": b'"\x01"',
    "control-tab": b'"\t"', "control-newline": b'"\n"', "control-cr": b'"\r"', "control-1f": b'"\x1f"', "control-8": b'"\x08"',
    # UTF-8 in strings
    "utf8-ff": b'"\xff"', "utf8-fe": b'"\xfe"', "utf8-80": b'"\x80"', "utf8-bf": b'"\xbf"', "utf8-c0": b'"\xc0\x80"',
    "utf8-c1": b'"\xc1\xbf"',
    "utf8-cut-2": b'"\xc3"', "utf8-cut-3": b'"\xe2\x82"', "utf8-cut-4": b'"\xf0\x9f\x98"', "utf8-overlong-3": b'"\xe0\x80\x80"',
    "utf8-overlong-4": b'"\xf0\x80\x80\x80"', "utf8-surrogate": b'"\xed\xa0\x80"', "utf8-surrogate-low": b'"\xed\xb0\x80"',
    "utf8-cesu": b'"\xed\xa0\xbd\xed\xb8\x80"', "utf8-110000": b'"\xf4\x90\x80\x80"', "utf8-f5": b'"\xf5\x80\x80\x80"',
    "utf8-5-bytes": b'"\xf8\x88\x80\x80\x80"', "utf8-6-bytes": b'"\xfc\x84\x80\x80\x80\x80"', "utf8-latin1": b'"\xe4"',
    "utf8-wrong-second": b'"\xc3("', "utf8-far-in": b'"' + b"a" * 5000 + b'\xff"',
    # structure
    "array-open": b"[", "array-open-value": b"[1", "array-open-comma": b"[1,", "array-comma-last": b"[1,]",
    "array-comma-first": b"[,1]",
    "array-comma-only": b"[,]", "array-commas": b"[1,,2]", "array-no-comma": b"[1 2]", "array-colon": b"[1:2]",
    "array-brace": b"[1}",
    "array-semicolon": b"[1;2]", "array-ellipsis": b"[1,...]", "array-star": b"[*]", "object-open": b"{",
    "object-open-name": b'{"a"',
    "object-open-colon": b'{"a":', "object-open-value": b'{"a":1', "object-comma-last": b'{"a":1,}',
    "object-comma-first": b'{,"a":1}',
    "object-commas": b'{"a":1,,"b":2}', "object-no-colon": b'{"a" 1}', "object-no-value": b'{"a":}', "object-no-name": b"{:1}",
    "object-name-only": b'{"a"}', "object-name-number": b"{1:1}", "object-name-bare": b"{a:1}", "object-name-single": b"{'a':1}",
    "object-name-null": b"{null:1}", "object-equals": b'{"a"=1}', "object-arrow": b'{"a"=>1}', "object-colons": b'{"a"::1}',
    "object-bracket": b'{"a":1]', "object-two-values": b'{"a":1 2}', "object-no-comma": b'{"a":1 "b":2}',
    "object-surrogate-name": rb'{"\ud800":1}',
    "object-bad-utf8-name": b'{"\xff":1}', "comment": b"[1/* x */]", "comment-line": b"[1//x\n]", "hash": b"[1#x\n]",
    "vertical-tab": b"[\x0b1]",
    "form-feed": b"[\x0c1]", "nbsp": b"[\xc2\xa01]", "nul-inside": b"[\x001]", "bom-inside": b"[\xef\xbb\xbf1]",
    "backslash": b"[\\n]",
    "depth-33": b"[" * 33 + b"]" * 33, "depth-33-objects": b'{"a":' * 33 + b"1" + b"}" * 33, "depth-100000": b"[" * 100000,
    "depth-100000-closed": b"[" * 100000 + b"]" * 100000, "depth-objects-50000": b'{"a":' * 50000,
    "depth-mixed": b'[{"a":' * 20 + b"1" + b"}]" * 20,
}

BROKEN_WHOLE = {
    "empty": b"", "blank": b"  \n\t", "bom": b"\xef\xbb\xbf1", "bom-only": b"\xef\xbb\xbf", "utf16-le": "[1]".encode("utf-16-le"),
    "utf16-be": "[1]".encode("utf-16-be"), "utf16-bom": "[1]".encode("utf-16"), "utf32": "[1]".encode("utf-32-le"),
    "nul-behind": b"[1]\0",
    "nul-before": b"\0[1]", "two-values": b"1 2", "two-arrays": b"[][]", "comma-behind": b"[1],", "bracket-behind": b"[1]]",
    "brace-behind": b"{}}", "bracket-only": b"]", "brace-only": b"}", "comma-only": b",", "colon-only": b":",
    "garbage-behind": b"[1]x",
    "newline-values": b"1\n2", "sequence": b"\x1e1\n", "prefix": b")]}',\n[1]", "jsonp": b"f([1])", "semicolon": b"[1];",
    "html": b"<html></html>",
    "xml": b"<?xml version='1.0'?><a/>", "yaml": b"a: 1", "msgpack": b"\x91\x01", "random": bytes(range(128, 256)),
    "zeros": b"\0" * 100,
    "ctrl-z": b"[1]\x1a", "ff-behind": b"[1]\xff", "vt-behind": b"[1]\x0b",
}


def good():
    """(name, text) of every good value."""
    for kind, table in (("number", NUMBERS), ("string", STRINGS), ("structure", STRUCTURES)):
        for name, text in table.items():
            yield f"{kind}-{name}", text.encode("utf-8")
