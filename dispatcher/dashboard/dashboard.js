// The dashboard: draws what /v1/status tells once a second. No library, nothing from elsewhere. It reads, but for the test
// message, which the broker publishes itself to the topic ciphermq.canary, and for what an admin's token lets it ask of the agent.
"use strict";

const STAGES = ["ingest", "encryptor", "dispatcher"];
const KEPT = 120; // looks, one a second
const PROTOCOL = "ciphermq.status.json";
const TOKEN_PROTOCOL = "ciphermq.token.";
const CANARY = "ciphermq.canary";

const $ = (id) => document.getElementById(id);
const base = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;

let token = ""; // in memory only
let socket = null;
let before = null;
let retryMs = 250;
const history = { messages: [], latency: [] };

// ---- numbers ----

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

function uptime(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24;
  const two = (number) => String(number).padStart(2, "0");
  return days > 0 ? `${days}d ${hours}h` : `${hours}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

const keyOf = (instance) => `${instance.stage} ${instance.instance}`;

// Counters of an instance begin at 0 with a new process.
function rise(now, old, name) {
  const was = old && old.pid === now.pid ? old.counters[name] : 0;
  return Math.max(0, now.counters[name] - was);
}

// The bound of the bucket in which 99 % of the interval's durations end, in ms; null: there were none.
function p99(now, old, stage, name) {
  let counts = null;
  for (const instance of now.instances.filter((one) => one.stage === stage)) {
    const was = old && old.instances.find((one) => keyOf(one) === keyOf(instance));
    const buckets = instance.durations[name].buckets;
    const bucketsWas = was ? was.durations[name].buckets : buckets.map(() => 0);
    counts = buckets.map((count, at) => count - bucketsWas[at] + (counts ? counts[at] : 0));
  }
  const all = counts ? counts.reduce((sum, count) => sum + count, 0) : 0;
  if (all <= 0) return null;
  let below = 0;
  for (let at = 0; at < counts.length; at++) {
    below += counts[at];
    if (below >= 0.99 * all) return 2 ** at / 1000;
  }
  return null;
}

// ---- drawing ----

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function drawStage(stage, state, rates) {
  const box = $(`stage-${stage}`);
  const list = box.querySelector("ul");
  const instances = state.instances.filter((one) => one.stage === stage);
  list.replaceChildren(...instances.map((one) => {
    const item = document.createElement("li");
    item.textContent = `${one.instance} ${one.alive ? "up" : "down"}`;
    item.className = one.alive ? "" : "down";
    return item;
  }));
  text(box.querySelector(".rate"), `${short.format(rates.messages[stage])} messages/s`);
}

function drawLinks(state, seconds) {
  const depth = state.ring.published - state.ring.gate;
  $("ring-fill").value = state.ring.fill;
  text($("ring-text"), `${plain.format(depth)} of ${plain.format(state.ring.slots)}`);
  const health = $("log-health");
  text(health, state.log.health);
  health.className = state.log.health === "ok" ? "state" : "state down";
  const stored = before ? (state.log.stored - before.log.stored) / seconds : 0;
  const size = state.log.bytes === null ? "" : `, ${short.format(state.log.bytes / 1e6)} MB`;
  text($("log-text"), `${short.format(stored)} records/s${size}`);
}

function drawInstances(state, seconds) {
  $("instances").replaceChildren(...state.instances.map((one) => {
    const old = before && before.instances.find((other) => keyOf(other) === keyOf(one));
    const row = document.createElement("tr");
    row.dataset.instance = keyOf(one);
    const refused = ["rejected_bad", "rejected_large", "rejected_full", "rejected_auth", "rejected_rate"]
      .reduce((sum, name) => sum + one.counters[name], 0);
    const cells = [one.stage, one.instance, one.alive ? "up" : "down", one.alive ? uptime(one.uptime_s) : "", one.starts,
      plain.format(rise(one, old, "messages") / seconds), plain.format(one.counters.messages),
      fine.format(rise(one, old, "bytes_in") / seconds / 1e6), fine.format(rise(one, old, "bytes_out") / seconds / 1e6),
      plain.format(one.ns_per_message), plain.format(one.counters.clients), plain.format(refused), plain.format(one.lag)];
    row.replaceChildren(...cells.map((value) => {
      const cell = document.createElement("td");
      cell.textContent = value;
      return cell;
    }));
    row.children[2].className = one.alive ? "state" : "state down";
    return row;
  }));
}

function drawDelivery(state) {
  const sum = (name) => state.instances.filter((one) => one.stage === "dispatcher")
    .reduce((total, one) => total + one.counters[name], 0);
  const shown = [["clients", "clients"], ["subscriptions", "subscriptions"], ["groups", "groups"], ["acks", "acknowledged"],
    ["redelivered", "delivered again"], ["dead_letters", "dead letters"], ["gaps", "gaps told"], ["expired", "expired"],
    ["undeliverable", "could not be opened"], ["clients_dropped", "clients dropped"]];
  $("delivery").replaceChildren(...shown.map(([name, label]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = label;
    value.textContent = plain.format(sum(name));
    value.dataset.counter = name;
    pair.append(term, value);
    return pair;
  }));
}

// ---- names: only there for who may read them ----

const ROWS = 20; // of each table; what is left out is said below it

function drawRows(id, rows, cells, total) {
  $(`${id}-section`).hidden = rows === undefined;
  if (rows === undefined) return;
  $(id).replaceChildren(...rows.slice(0, ROWS).map((one) => {
    const row = document.createElement("tr");
    row.replaceChildren(...cells(one).map((value) => {
      const cell = document.createElement("td");
      cell.textContent = value;
      return cell;
    }));
    return row;
  }));
  const more = (total === undefined ? rows.length : total) - Math.min(rows.length, ROWS);
  text($(`${id}-note`), rows.length === 0 ? "none" : more > 0 ? `and ${plain.format(more)} more; ciphermqctl status has them` : "");
}

const clock = (ms) => ms === 0 ? "" : new Date(ms).toLocaleTimeString("en", { hour12: false });
const megabytes = (bytes) => fine.format(bytes / 1e6);

function drawNames(state, seconds) {
  const topicsWere = new Map(before && before.topics ? before.topics.map((one) => [one.topic, one]) : []);
  const perSecond = (one) => topicsWere.has(one.topic) ? Math.max(0, one.messages - topicsWere.get(one.topic).messages) / seconds : 0;
  const most = (list, number) => list && [...list].sort((a, b) => number(b) - number(a));
  drawRows("topics", most(state.topics, (one) => one.messages), (one) =>
    [one.topic, short.format(perSecond(one)), plain.format(one.messages), megabytes(one.bytes), clock(one.last_ms)]);
  drawRows("groups", most(state.groups, (one) => one.lag_records), (one) =>
    [one.group, one.topic, plain.format(one.lag_records), plain.format(one.pending), plain.format(one.members),
      plain.format(one.redelivered), plain.format(one.dead_letters)]);
  drawRows("clients", most(state.clients && state.clients.rows, (one) => one.lag_records), (one) =>
    [one.kind, one.subject, one.group === null ? "" : one.group, one.address,
      uptime(Math.max(0, Math.floor((state.time_ms - one.connected_ms) / 1000))), plain.format(one.lag_records),
      plain.format(one.messages), megabytes(one.bytes), one.dispatcher], state.clients && state.clients.total);
  drawRows("errors", most(state.errors, (one) => one.time_ms), (one) =>
    [clock(one.time_ms), `${one.stage} ${one.instance}`, one.level, one.event, one.text]);
}

function plot(canvas, series) {
  const style = getComputedStyle(document.documentElement);
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const draw = canvas.getContext("2d");
  draw.scale(scale, scale);
  const top = (Math.max(0, ...series.flat().filter((value) => value !== null)) || 1) * 1.1;
  draw.fillStyle = style.getPropertyValue("--soft");
  draw.strokeStyle = style.getPropertyValue("--line");
  draw.font = "12px system-ui, sans-serif";
  for (const part of [0, 0.5, 1]) {
    const y = height - 14 - part * (height - 28);
    draw.beginPath();
    draw.moveTo(0, y);
    draw.lineTo(width, y);
    draw.stroke();
    draw.fillText(short.format(top * part), 2, y - 3);
  }
  series.forEach((values, number) => {
    draw.strokeStyle = style.getPropertyValue(`--c${number}`);
    draw.lineWidth = 1.8;
    draw.beginPath();
    let pen = false;
    values.forEach((value, at) => {
      if (value === null) return;
      const x = width - (values.length - 1 - at) * (width / (KEPT - 1)), y = height - 14 - value / top * (height - 28);
      if (pen) draw.lineTo(x, y); else draw.moveTo(x, y);
      pen = true;
    });
    draw.stroke();
  });
}

function remember(kind, values) {
  history[kind].push(values);
  if (history[kind].length > KEPT) history[kind].shift();
}

function drawPlots() {
  for (const kind of ["messages", "latency"])
    plot($(`plot-${kind}`), [0, 1, 2].map((number) => history[kind].map((values) => values[number])));
}

function draw(state) {
  const seconds = before ? Math.max(0.001, (state.time_ms - before.time_ms) / 1000) : 1;
  const rates = { messages: {} };
  for (const stage of STAGES) {
    rates.messages[stage] = before ? state.instances.filter((one) => one.stage === stage).reduce((sum, one) =>
      sum + rise(one, before.instances.find((other) => keyOf(other) === keyOf(one)), "messages"), 0) / seconds : 0;
  }
  text($("broker"), `${state.broker}, version ${state.version}`);
  for (const stage of STAGES) drawStage(stage, state, rates);
  drawLinks(state, seconds);
  drawInstances(state, seconds);
  drawDelivery(state);
  drawNames(state, seconds);
  if (before) {
    remember("messages", STAGES.map((stage) => rates.messages[stage]));
    remember("latency", [p99(state, before, "ingest", "request"), p99(state, before, "encryptor", "log_sync"),
      p99(state, before, "dispatcher", "delivery")]);
  }
  drawPlots();
  before = state;
  operating.show();
  const down = STAGES.filter((stage) => state.live[stage] === 0);
  const connection = $("connection");
  text(connection, down.length > 0 ? `no ${down.join(", no ")}` : state.log.health === "ok" ? "all stages run" : `log: ${state.log.health}`);
  connection.className = down.length > 0 || state.log.health !== "ok" ? "state down" : "state";
}

// ---- live ----

const protocols = (first) => token === "" ? [first] : [first, TOKEN_PROTOCOL + token];

function connect() {
  let opened = false;
  socket = new WebSocket(`${base}/v1/status`, protocols(PROTOCOL));
  socket.onmessage = (event) => {
    const said = JSON.parse(event.data);
    if (said.state) draw(said.state);
    if (said.published) waiting.published(said.published);
    if (said.refused) waiting.refused(said.refused);
    if (said.operation) operating.heard(said.operation);
  };
  socket.onopen = () => {
    opened = true;
    retryMs = 250;
    text($("token-title"), "Token");
    if (token !== "") operating.ask({ do: "watch" });
  };
  socket.onclose = () => {
    text($("connection"), opened || before ? "connection lost, trying again" : "no connection");
    $("connection").className = "state down";
    if (!opened) askForToken();
    operating.lost();
    setTimeout(connect, retryMs);
    retryMs = Math.min(5000, retryMs * 2);
  };
}

// A browser does not say why an upgrade was refused; a plain request to the same place does.
async function askForToken() {
  try {
    const answer = await fetch("/v1/status", token === "" ? {} : { headers: { Authorization: `Bearer ${token}` } });
    const wanted = answer.status === 401 || answer.status === 403;
    text($("token-title"), wanted ? "This broker wants a token" : "Token");
  } catch (error) {
    // nobody is there: the next attempt will tell
  }
}

$("token").onsubmit = (event) => {
  event.preventDefault();
  token = $("token-text").value.trim();
  $("token-text").value = "";
  if (socket) socket.close();
};

// ---- the test message ----

const waiting = {
  id: null, sentMs: 0, reader: null, arrived: new Map(),
  tell(words) { text($("test-result"), words); },
  published(id) {
    this.id = id;
    this.look();
  },
  refused(words) {
    this.tell(words);
    this.end();
  },
  look() {
    if (this.id === null || !this.arrived.has(this.id)) return;
    const message = this.arrived.get(this.id);
    this.tell(`“${message.data}” arrived as ${this.id} after ${(message.atMs - this.sentMs).toFixed(1)} ms`);
    this.end();
  },
  end() {
    if (this.reader) this.reader.close();
    this.reader = null;
  },
};

$("test").onsubmit = (event) => {
  event.preventDefault();
  const words = $("test-text").value;
  waiting.end();
  waiting.id = null;
  waiting.arrived.clear();
  if (!socket || socket.readyState !== WebSocket.OPEN) {
    waiting.tell("there is no connection");
    return;
  }
  waiting.tell("sending");
  const reader = new WebSocket(`${base}/t/${CANARY}/ws?since=latest`, token === "" ? [] : ["ciphermq.topic.json", TOKEN_PROTOCOL + token]);
  waiting.reader = reader;
  reader.onopen = () => {
    waiting.sentMs = performance.now();
    socket.send(JSON.stringify({ test: words }));
  };
  reader.onmessage = (message) => {
    const said = JSON.parse(message.data);
    for (const item of said.msgs ? said.msgs.items : []) waiting.arrived.set(item.id, { data: item.data, atMs: performance.now() });
    waiting.look();
  };
  reader.onerror = () => waiting.tell(`reading ${CANARY} was refused`);
};

// ---- restart and scale: asked of the agent, through the dispatcher, which looks at the token each time ----

const operating = {
  wanted: null, opener: null, running: false, allowed: false,
  ask(operation) {
    if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ operate: operation }));
  },
  show() {
    for (const place of document.querySelectorAll(".operate")) {
      const count = before ? before.live[place.dataset.stage] : 0;
      place.hidden = !this.allowed;
      for (const button of place.children)
        button.disabled = this.running || (button.dataset.do === "less" && count <= 1) || (button.dataset.do === "more" && count >= 8);
    }
  },
  named(one) {
    if (one.do === "scale") return `scale ${one.stage} to ${one.count}`;
    return one.instance === null ? `restart ${one.stage}` : `restart ${one.stage} ${one.instance}`;
  },
  heard(said) {
    const place = $("operation");
    this.running = said.state === "running";
    if (said.state === "denied" || said.state === "absent") this.allowed = false;
    else this.allowed = true;
    const what = said.do === undefined ? "" : `${this.named(said)}, asked by ${said.by}: `;
    const text_ = said.text === "" ? "" : said.do === undefined ? said.text : `: ${said.text}`;
    text(place, said.state === "idle" ? "" : said.do === undefined ? text_ : `${what}${said.state}${text_}`);
    place.className = said.state === "done" ? "state" : said.state === "running" ? "" : "state down";
    if (!this.allowed) this.close();
    this.show();
  },
  lost() {
    this.running = false;
    this.allowed = false;
    this.close();
    this.show();
  },
  sure(operation, opener) {
    this.wanted = operation;
    this.opener = opener;
    text($("sure-text"), operation.do === "restart"
      ? `Restart ${operation.stage}, one instance after the other? Nothing that was acknowledged is lost.`
      : `Run ${operation.count} of ${operation.stage}?`);
    $("sure").hidden = false;
    $("sure-yes").focus();
  },
  close() {
    if (!$("sure").hidden && this.opener) this.opener.focus();
    $("sure").hidden = true;
    this.wanted = null;
  },
};

for (const place of document.querySelectorAll(".operate")) {
  place.onclick = (event) => {
    const button = event.target.closest("button"), stage = place.dataset.stage;
    if (!button || !before) return;
    const count = before.live[stage] + (button.dataset.do === "more" ? 1 : -1);
    operating.sure(button.dataset.do === "restart" ? { do: "restart", stage, instance: null } : { do: "scale", stage, count }, button);
  };
}
$("sure-yes").onclick = () => {
  const operation = operating.wanted;
  operating.close();
  if (operation) operating.ask(operation);
};
$("sure-no").onclick = () => operating.close();
$("sure").onkeydown = (event) => {
  if (event.key === "Escape") operating.close();
};

window.addEventListener("resize", drawPlots);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPlots);
connect();
