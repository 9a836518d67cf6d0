// CipherMQ from Node.js 18 and newer, without packages.
//
//   node client.mjs publish TOPIC TEXT          prints the reply
//   node client.mjs subscribe TOPIC [SINCE]     everything, one JSON a line; SINCE: earliest, latest, or the last id that you have
//
// Groups need a WebSocket, which Node.js has from version 22 on: browser.html shows the same calls.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const publishUrl = process.env.CIPHERMQ_URL ?? "http://127.0.0.1:3000";
const readUrl = process.env.CIPHERMQ_READ_URL ?? "http://127.0.0.1:8080";
const auth = process.env.CIPHERMQ_TOKEN ? { Authorization: `Bearer ${process.env.CIPHERMQ_TOKEN}` } : {};
const tryMs = 60_000;

function fail(text) {
  console.error(text);
  process.exit(1);
}

// The key makes a retry safe: whatever became of the first try, the message is there once.
async function publish(topic, text) {
  const headers = { "Content-Type": "text/plain", "Idempotency-Key": randomUUID(), ...auth };
  for (const deadline = Date.now() + tryMs; ; ) {
    let told = "no answer", waitS = 1;
    try {
      const reply = await fetch(`${publishUrl}/v1/topics/${topic}`, { method: "POST", headers, body: text });
      if (reply.ok) return await reply.json();
      told = `${reply.status}: ${await reply.text()}`;
      if (![429, 500, 503].includes(reply.status)) fail(told);
      waitS = Number(reply.headers.get("Retry-After") ?? 1);
    } catch (error) {
      told = `no answer: ${error.cause ?? error}`;
    }
    if (Date.now() > deadline) fail(told);
    await sleep(waitS * 1000);
  }
}

// Server-Sent Events: lines "name: value", an empty line ends an event. Every event has the id to go on behind.
async function* events(body) {
  let rest = "", event = {};
  for await (const part of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + part).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        yield event;
        event = {};
      } else if (!line.startsWith(":")) {
        const [name, ...value] = line.split(": ");
        event[name] = value.join(": ");
      }
    }
  }
}

async function subscribe(topic, since = "earliest") {
  let last;
  for (;;) {
    try {
      const headers = last ? { "Last-Event-ID": last, ...auth } : auth;
      const reply = await fetch(`${readUrl}/t/${topic}/sse?since=${since}`, { headers });
      if (reply.status < 500 && !reply.ok) fail(`${reply.status}: ${await reply.text()}`);
      if (reply.ok) {
        for await (const event of events(reply.body)) {
          if (event.event === "message") console.log(event.data);
          if (event.event === "gap") console.error("missing:", event.data);
          last = event.id ?? last;
        }
      }
    } catch { /* the broker restarts, or the network is away */ }
    await sleep(1000);
  }
}

const [verb, ...words] = process.argv.slice(2);
if (verb === "publish" && words.length === 2) console.log(JSON.stringify(await publish(...words)));
else if (verb === "subscribe" && words.length > 0) await subscribe(...words);
else fail("usage: node client.mjs publish TOPIC TEXT | subscribe TOPIC [SINCE]");
