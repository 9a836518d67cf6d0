"""Where an installed library decides before a handler of ours can, and its answer is accepted although it is not the right one.

Ownership: none.
Units: none.
Errors: none.
Callers: tests/integration/test_corpus.py; the cases name these by their keys.

A case with a limit gives both answers. A newer library that gives the right one is as good.
"""

LIMITS = {
    "blank-behind-length": "libmicrohttpd 0.9.75 refuses a Content-Length with blanks behind it, which is the safe side.",
    "blank-behind-coding": "libmicrohttpd 0.9.75 does not read chunks when blanks stand behind `chunked`; so that is refused.",
    "colon-ends-head": "libmicrohttpd 0.9.75 takes a line that begins with a colon for the end of the head; no handler sees it.",
    "nul-in-target": "libmicrohttpd 0.9.75 ends the target at its NUL, and hands out the part before it.",
    "bad-upgrade-ends": "libwebsockets 4.1.6 just closes on an upgrade that it does not understand.",
    "unmasked": "libwebsockets 4.1.6 takes frames of clients that are not masked; 5.0 closes with 1002.",
    "length-not-minimal": "libwebsockets 4.1.6 takes lengths in more bytes than they need.",
    "length-bit-63": "libwebsockets 4.1.6 ends the connection without a close frame.",
    "long-control-ends": "libwebsockets 4.1.6 ends the connection without a close frame.",
    "frames-cut-by-handshake": "libwebsockets 4.1.6 loses the head of a frame that came with the handshake, which clients must not send.",
    "close-code-echoed": "libwebsockets 4.1.6 echoes any close code.",
    "one-byte-close-echoed": "libwebsockets 4.1.6 echoes a close frame of one byte.",
    "close-reason-unchecked": "libwebsockets 4.1.6 does not look at the text of a close frame.",
    "method-in-any-case": "libwebsockets 4.1.6 takes `get` for GET.",
    "reset-behind-answer": "libmicrohttpd closes while the client still sends; TCP may drop the answer with that (RFC 9112, 9.6).",
    "half-closed-while-waiting": "libmicrohttpd 0.9.75 ends a suspended connection whose client has ended its side, unanswered.",
    "many-arguments": "libmicrohttpd 0.9.75 has no memory for the arguments of such a query, and closes.",
    "own-header-twice": "libwebsockets 4.1.6 hands out the first only of headers that it does not know itself.",
    "bare-lf": "libmicrohttpd 0.9.75 takes a bare LF as the end of a line, and no handler sees it; strict since 1.0.",
    "obs-fold": "libmicrohttpd 0.9.75 drops folded lines, and the header before them, before a handler sees them; strict since 1.0.",
    "nul-in-value": "libmicrohttpd 0.9.75 ends a value at its NUL, and hands out the part before it.",
    "continue-sent-anyway": "libmicrohttpd sends 100 although the body is there already, which RFC 9110 (10.1.1) allows.",
    "no-answer-to-noise": "libmicrohttpd 0.9.75 just closes on a first line that it cannot read.",
}
