#!/usr/bin/python3
"""The original clients, unmodified in how they work: a publisher on aiohttp and tenacity, a consumer on websocket-client.

Ownership: each case has a broker of its own.
Units: messages, seconds.
Errors: exit 1 with what differs from 100,000 messages exactly once and 100 % success.
Callers: ctest, as integration.original_clients.
"""

import asyncio
import json
import os
import sys
import tempfile
import threading
import unittest

import aiohttp
import websocket
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from broker import Broker, wait_until  # noqa: E402

MESSAGES = 100_000
BATCH = 20_000
PATIENCE_S = 120.0


class Publisher:
    """Posts all messages in concurrent batches; what happens to each batch is kept, as in the original's CSV."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/input/batch"
        self.results = []

    @retry(stop=stop_after_attempt(3), wait=wait_fixed(1), retry=retry_if_exception_type(aiohttp.ClientError),
           reraise=True)
    async def post(self, session, batch):
        async with session.post(self.url, json={"messages": batch}) as response:
            body = await response.text()
            response.raise_for_status()
            return response.status, json.loads(body)

    async def send_batch(self, session, batch):
        try:
            status, reply = await self.post(session, batch)
            self.results += [(message["content"], status, True) for message in batch]
            return reply
        except aiohttp.ClientError as error:
            self.results += [(message["content"], str(error), False) for message in batch]
            return None

    async def run(self):
        messages = [{"content": f"message_{i + 1}"} for i in range(MESSAGES)]
        batches = [messages[i:i + BATCH] for i in range(0, MESSAGES, BATCH)]
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(self.send_batch(session, batch) for batch in batches))


class Consumer:
    """Writes each received message as a line of a file."""

    def __init__(self, port, path):
        self.out = open(path, "w", encoding="utf-8")
        self.count = 0
        self.errors = []
        self.connected = threading.Event()
        self.complete = threading.Event()
        self.app = websocket.WebSocketApp(f"ws://127.0.0.1:{port}/", on_open=self.on_open,
                                          on_message=self.on_message, on_error=self.on_error)
        self.thread = threading.Thread(target=self.app.run_forever, daemon=True)
        self.thread.start()

    def on_open(self, _app):
        self.connected.set()

    def on_message(self, _app, text):
        for message in json.loads(text):
            self.out.write(message + "\n")
            self.count += 1
        if self.count >= MESSAGES:
            self.complete.set()
            self.app.close()

    def on_error(self, _app, error):
        self.errors.append(repr(error))

    def close(self):
        self.app.keep_running = False
        self.thread.join(PATIENCE_S)
        self.out.close()


class OriginalClients(unittest.TestCase):
    def check_replies(self, publisher, replies):
        failed = [result for result in publisher.results if not result[2]]
        self.assertEqual(failed[:3], [])
        self.assertEqual(len(publisher.results), MESSAGES)
        self.assertEqual([reply["count"] for reply in replies], [BATCH] * (MESSAGES // BATCH))
        self.assertEqual({reply["ack"] for reply in replies}, {"durable"})
        self.assertEqual(len({reply["id"] for reply in replies}), MESSAGES // BATCH)

    def check_file(self, path):
        with open(path, encoding="utf-8") as lines:
            received = lines.read().splitlines()
        self.assertEqual(len(received), MESSAGES)
        self.assertEqual(set(received), {f"message_{i + 1}" for i in range(MESSAGES)})
        # Each batch is one record: its messages stay together and in order.
        for start in range(0, MESSAGES, BATCH):
            first = int(received[start].removeprefix("message_"))
            want = [f"message_{i}" for i in range(first, first + BATCH)]
            self.assertEqual(received[start:start + BATCH], want)

    def run_clients(self, consumer_first):
        with Broker() as broker, tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "received.txt")
            consumer = Consumer(broker.ws_port, path) if consumer_first else None
            if consumer:
                self.assertTrue(consumer.connected.wait(PATIENCE_S), consumer.errors)
            publisher = Publisher(broker.http_port)
            replies = asyncio.run(publisher.run())
            consumer = consumer or Consumer(broker.ws_port, path)
            complete = consumer.complete.wait(PATIENCE_S)
            consumer.close()
            self.assertTrue(complete, f"{consumer.count} of {MESSAGES}, {consumer.errors}\n{broker.log_tails()}")
            # Nothing is left that a second consumer would get.
            wait_until(broker.delivered_all, PATIENCE_S, "all records are done")
            self.check_replies(publisher, replies)
            self.check_file(path)

    def test_consumer_is_connected_before(self):
        self.run_clients(consumer_first=True)

    def test_messages_wait_for_the_consumer(self):
        self.run_clients(consumer_first=False)


if __name__ == "__main__":
    unittest.main(verbosity=2)
