"""The bad-input corpus: requests, frames and bodies, each with the answer that is right, and the means to replay them.

    http_requests.py   raw HTTP requests
    ws_streams.py      WebSocket handshakes and byte streams
    reads.py           requests for /t/{topic}/...
    bodies.py          bodies of one message, and of JSON
    formats.py         bodies of JSON lines, MessagePack and CloudEvents
    gzipped.py         compressed bodies
    identity.py        tokens: who is let in, who is not, and what each may
    json_texts.py      JSON texts, good and bad, that the bodies are made of
    known.py           where an installed library decides otherwise, and why that is accepted
    replay.py          sends them, many at a time, and compares

Answers are reasoned from the RFCs and from docs/, one by one; none is a recording. tests/integration/test_corpus.py replays.
"""
