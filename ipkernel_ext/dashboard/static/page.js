"use strict";
// Rows arrive once, then as differences; what did not change is not drawn again.

const token = new URLSearchParams(location.search).get("token") ?? "";
const $ = (id) => document.getElementById(id);
const PAGE = 64; // engines in the table, and lanes of the stream
const LATEST = 14; // tasks in their table
const KEPT = 30000; // blocks of the stream
const COLOURS = 8;
const BAD_STATES = ["unresponsive", "overrun"];

const engines = new Map(), clients = new Map(), selected = new Set();
const cluster = {}, rates = [];
let blocks = [], shift = null, sort = "id", down = false, page = 0, visible = [];

// ---------------------------------------------------------------- words

const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

function duration(seconds) {
  if (seconds < 0.01) return `${(Math.max(0, seconds) * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function bytes(n) {
  if (n === null) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  for (; n >= 1000 && unit < units.length - 1; unit++) n /= 1000;
  return `${n.toFixed(unit && n < 100 ? 1 : 0)} ${units[unit]}`;
}

const now = () => performance.now() / 1000 - (shift ?? 0); // by the server's clock
const kind = (what) => what.replace(/\(\).*$/, "()");

const places = new Map(); // in the palette, by kind: the same after a reload, and no two alike while there are enough

function colour(what) {
  const name = kind(what);
  if (!places.has(name)) {
    let hash = 0;
    for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) | 0;
    const first = Math.abs(hash) % COLOURS, taken = new Set(places.values());
    let place = first;
    for (let i = 0; i < COLOURS && taken.has(place); i++) place = (first + i) % COLOURS;
    places.set(name, place);
    if (places.size > 1000) places.delete(places.keys().next().value);
  }
  return palette()[places.get(name)];
}

const LIGHT = ["#2f74c0", "#c96a10", "#2b8a57", "#8a5cc2", "#a8851a", "#1b8a99", "#7d5a40", "#6b7a3a"];
const DARK = ["#6fb1f5", "#f0a04b", "#62c990", "#b795ec", "#dcc05a", "#5fc6d4", "#c9a07c", "#b0c070"];
const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark"
  || (document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
const palette = () => (isDark() ? DARK : LIGHT);
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
const inks = new Map();

function ink(name) { // a colour of the style sheet, as it is in this theme
  if (!inks.has(name)) {
    probe.style.color = `var(--${name})`;
    inks.set(name, getComputedStyle(probe).color);
  }
  return inks.get(name);
}

// ---------------------------------------------------------------- talking to the server

const relative = (path) => new URL(path, location.href.split("?")[0]);

async function ask(path, body) {
  const options = { headers: { authorization: `Bearer ${token}` } };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  const answer = await fetch(relative(path), options);
  const told = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  if (told.error !== undefined) throw new Error(told.error);
  return told.said;
}

let quiet = 0;
function say(text, failed = false) {
  const said = $("said");
  said.textContent = text;
  said.dataset.state = failed ? "failed" : "done";
  said.hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => (said.hidden = true), failed ? 12000 : 5000);
}

async function act(path, body, waiting) {
  say(waiting);
  try {
    say(await ask(path, body));
  } catch (error) {
    say(error.message, true);
  }
}

function sure(question, yes) {
  $("question").textContent = question;
  $("yes").textContent = yes;
  const dialog = $("sure");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((answer) => dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}

function connect() {
  const source = new EventSource(relative(`events?token=${encodeURIComponent(token)}`));
  source.onmessage = (event) => take(JSON.parse(event.data));
  source.onopen = () => told("live", "live");
  source.onerror = () => {
    told("lost", "the dashboard's server is gone; trying again");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

function told(state, text) {
  if ($("connection").textContent === text) return;
  $("connection").dataset.state = state;
  $("connection").textContent = text;
}

function merge(rows, changes) {
  for (const [id, row] of Object.entries(changes ?? {})) {
    if (row === null) rows.delete(id);
    else if (rows.has(id)) Object.assign(rows.get(id), row);
    else rows.set(id, row);
  }
}

function take(message) {
  if (message.all) {
    engines.clear();
    clients.clear();
    rates.length = 0;
    blocks = [];
  }
  const drift = performance.now() / 1000 - message.now;
  if (shift === null || message.all || drift < shift) shift = drift; // the message that took the shortest way
  Object.assign(cluster, message.cluster);
  merge(engines, message.engines);
  merge(clients, message.clients);
  rates.push(...message.rates);
  if (rates.length > 300) rates.splice(0, rates.length - 300);
  for (const [engine, begin, end, what, client, failure, tasks, task] of message.blocks)
    blocks.push({ engine, begin, end, what, client, failure, tasks, task });
  if (blocks.length > KEPT) blocks = blocks.slice(-KEPT);
  for (const id of selected) if (!engines.has(id)) selected.delete(id);
  if (message.cluster) showCluster();
  if (message.engines || message.all) showEngines();
  if (message.clients || message.all) showClients();
  if (message.blocks.length || message.all) showLatest();
  showRates();
  lively = true;
}

// ---------------------------------------------------------------- the cluster as a whole

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showCluster() {
  const total = engines.size, states = cluster.states ?? {};
  set($("tile-engines"), total.toLocaleString("en"));
  set($("tile-states"), Object.entries(states).map(([state, n]) => `${n} ${state}`).join(", "));
  set($("tile-running"), (cluster.running ?? 0).toLocaleString("en"));
  set($("tile-queued"), `${(cluster.queued ?? 0).toLocaleString("en")} queued`);
  set($("tile-rate"), `${(cluster.rate ?? 0).toLocaleString("en", { maximumFractionDigits: cluster.rate < 10 ? 1 : 0 })} /s`);
  set($("tile-done"), `${(cluster.done ?? 0).toLocaleString("en")} done`);
  set($("tile-cpu"), `${(cluster.cpu ?? 0).toLocaleString("en")} %`);
  set($("tile-cores"), `${((cluster.cpu ?? 0) / 100).toFixed(1)} cores`);
  set($("tile-memory"), bytes(cluster.memory ?? 0));
  set($("tile-each"), total ? `${bytes((cluster.memory ?? 0) / total)} each` : "");
  if (cluster.pid) {
    const since = new Date(cluster.started * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    set($("controller"), `controller pid ${cluster.pid} on ${cluster.host}, since ${since}`);
  }
  $("trouble").hidden = !cluster.trouble;
  set($("trouble"), cluster.trouble ?? "");
  const chosen = $("state"), known = ["", ...Object.keys(states)];
  if ([...chosen.options].map((option) => option.value).join() !== known.join() && document.activeElement !== chosen) {
    const value = chosen.value;
    chosen.replaceChildren(...known.map((state) => new Option(state || "all", state)));
    chosen.value = known.includes(value) ? value : "";
  }
}

function fitted(canvas, height) { // a context in CSS pixels
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth;
  if (height !== undefined) canvas.style.height = `${height}px`;
  height = height ?? canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

function showRates() {
  const [context, width, height] = fitted($("rates"));
  const most = Math.max(1, ...rates.map(([, rate]) => rate));
  if (rates.length < 2) return;
  const end = rates.at(-1)[0], span = Math.max(30, Math.min(300, end - rates[0][0]));
  const x = (at) => width - ((end - at) / span) * width, y = (rate) => height - 2 - (rate / most) * (height - 6);
  context.beginPath();
  rates.forEach(([at, rate], i) => (i ? context.lineTo(x(at), y(rate)) : context.moveTo(x(at), y(rate))));
  context.strokeStyle = ink("accent");
  context.lineWidth = 1.5;
  context.globalAlpha = 0.8;
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(x(rates[0][0]), height);
  context.globalAlpha = 0.15;
  context.fillStyle = ink("accent");
  context.fill();
  context.globalAlpha = 1;
}

// ---------------------------------------------------------------- engines

const CELLS = ["id", "host", "pid", "state", "running", "queued", "done", "cpu", "memory"];
const NUMBERS = new Set(["id", "pid", "queued", "done", "cpu", "memory"]);
const trs = new Map();

function chosenRows() {
  const text = $("find").value.trim().toLowerCase(), state = $("state").value;
  const fits = (row) => (!state || row.state === state)
    && (!text || String(row.id) === text || `${row.host} ${row.running} ${row.task}`.toLowerCase().includes(text));
  const key = (row) => row[sort] ?? (NUMBERS.has(sort) ? -1 : "");
  const rows = [...engines.values()].filter(fits);
  rows.sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    return (left < right ? -1 : left > right ? 1 : 0) * (down ? -1 : 1) || a.id - b.id;
  });
  return rows;
}

function make(row) {
  const tr = document.createElement("tr"), id = String(row.id);
  tr.dataset.id = id;
  const box = document.createElement("input");
  box.type = "checkbox";
  box.setAttribute("aria-label", `Select engine ${id}`);
  box.addEventListener("change", () => {
    if (box.checked) selected.add(id);
    else selected.delete(id);
    showSelected();
  });
  tr.insertCell().append(box);
  for (const name of CELLS) {
    const cell = name === "id" ? document.createElement("th") : document.createElement("td");
    if (name === "id") cell.scope = "row";
    cell.className = NUMBERS.has(name) ? `number ${name}` : name === "running" ? "what" : name;
    if (name === "cpu") cell.append(document.createElement("span"), "");
    tr.append(cell);
  }
  const actions = tr.insertCell();
  actions.className = "actions";
  for (const [text, click] of [["Interrupt", () => interrupt([id])], ["Restart", () => restart([id])], ["Log", () => openLog(`engine ${id}`)]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", `${text}${text === "Log" ? " of" : ""} engine ${id}`);
    button.addEventListener("click", click);
    actions.append(button);
  }
  return tr;
}

function fill(tr, row) {
  const cells = tr.cells, id = String(row.id);
  cells[0].firstChild.checked = selected.has(id);
  CELLS.forEach((name, i) => {
    const cell = cells[i + 1], value = row[name];
    if (name === "cpu") {
      const text = value === null ? "–" : `${value} %`;
      if (cell.lastChild.data !== text) cell.lastChild.data = text;
      const part = `${Math.min(100, value ?? 0)}%`;
      if (cell.firstChild.style.getPropertyValue("--part") !== part) cell.firstChild.style.setProperty("--part", part);
    } else if (name === "memory") set(cell, bytes(value));
    else if (name === "running") fillRunning(cell, row);
    else if (name === "id") set(cell, id);
    else if (name === "host" || name === "pid") set(cell, String(value || "–"));
    else set(cell, value.toLocaleString("en"));
    if (name === "state" && cell.dataset.state !== value) {
      cell.dataset.state = value;
      cell.className = "state";
    }
  });
}

function fillRunning(cell, row) {
  const text = row.task ? `${row.running}, ${duration(Math.floor(now() - row.since) || 0.1).replace(/^100 ms$/, "< 1 s")}` : "";
  set(cell, text);
  if (cell.title !== row.running) cell.title = row.running;
}

function showEngines() {
  const rows = chosenRows(), pages = Math.max(1, Math.ceil(rows.length / PAGE));
  page = Math.min(page, pages - 1);
  visible = rows.slice(page * PAGE, (page + 1) * PAGE);
  const body = $("rows"), wanted = visible.map((row) => String(row.id));
  if ([...body.children].map((tr) => tr.dataset.id).join() !== wanted.join()) {
    for (const [id, tr] of trs) if (!wanted.includes(id)) { tr.remove(); trs.delete(id); }
    wanted.forEach((id, i) => {
      if (!trs.has(id)) trs.set(id, make(engines.get(id)));
      if (body.children[i] !== trs.get(id)) body.insertBefore(trs.get(id), body.children[i] ?? null);
    });
  }
  for (const row of visible) fill(trs.get(String(row.id)), row);
  $("pager").hidden = pages === 1;
  $("previous").disabled = page === 0;
  $("next").disabled = page === pages - 1;
  set($("page"), `${page * PAGE + 1} to ${page * PAGE + visible.length} of ${count(rows.length, "engine")}`);
  showSelected(rows);
  showWall(rows);
  if (document.activeElement !== $("wanted") && !$("wanted").dataset.typed) $("wanted").value = engines.size;
}

function showSelected(rows = chosenRows()) {
  const some = selected.size > 0, every = $("every");
  $("interrupt").disabled = $("restart").disabled = !some;
  set($("interrupt"), some ? `Interrupt ${selected.size}` : "Interrupt selected");
  set($("restart"), some ? `Restart ${selected.size}` : "Restart selected");
  every.checked = rows.length > 0 && rows.every((row) => selected.has(String(row.id)));
  every.indeterminate = some && !every.checked;
  for (const [id, tr] of trs) {
    const is = String(selected.has(id));
    if (tr.getAttribute("aria-selected") !== is) tr.setAttribute("aria-selected", is);
  }
}

function showWall(rows) { // a square for each engine, where the table has pages
  const wall = $("wall");
  wall.hidden = rows.length <= PAGE;
  if (wall.hidden) return;
  const size = rows.length > 2048 ? 7 : 12, across = Math.max(1, Math.floor(wall.clientWidth / size));
  const [context] = fitted(wall, Math.ceil(rows.length / across) * size);
  const inkOf = (state) => ink(state === "busy" ? "accent" : state === "ready" ? "line" : BAD_STATES.includes(state) ? "bad" : "warn");
  rows.forEach((row, i) => {
    context.fillStyle = inkOf(row.state);
    context.globalAlpha = row.state === "busy" ? 0.35 + 0.65 * Math.min(1, (row.cpu ?? 0) / 100) : 1;
    context.fillRect((i % across) * size, Math.floor(i / across) * size, size - 2, size - 2);
  });
  context.globalAlpha = 1;
  const lines = [page * PAGE, Math.min((page + 1) * PAGE, rows.length) - 1];
  context.fillStyle = ink("text");
  for (let i = lines[0]; i <= lines[1]; i++) context.fillRect((i % across) * size, Math.floor(i / across) * size + size - 2, size, 1);
  wall.onclick = (event) => {
    const i = Math.floor(event.offsetY / size) * across + Math.floor(event.offsetX / size);
    if (i < rows.length) turn(Math.floor(i / PAGE));
  };
}

function turn(to) {
  page = Math.max(0, to);
  showEngines();
  lively = true;
}

const named = (ids) => (ids.length > 8 ? count(ids.length, "engine") : `engine${ids.length === 1 ? "" : "s"} ${ids.join(", ")}`);
const byNumber = (ids) => [...ids].map(Number).sort((a, b) => a - b);
const interrupt = (ids) => act("interrupt", { engines: byNumber(ids) }, `interrupting ${named(byNumber(ids))}`);

async function restart(ids) {
  const those = byNumber(ids), their = those.length === 1 ? "Its" : "Their";
  if (await sure(`Restart ${named(those)}? ${their} variables are lost, and what runs there ends.`, "Restart"))
    await act("restart", { engines: those }, `restarting ${named(those)}`);
}

async function scale(wanted) {
  const fewer = engines.size - wanted;
  if (fewer > 0 && !(await sure(`End ${count(fewer, "engine")}, those with the highest ids? Their variables are lost.`, "End them"))) return;
  await act("scale", { engines: wanted }, `scaling to ${count(wanted, "engine")}`);
  delete $("wanted").dataset.typed;
}

$("interrupt").addEventListener("click", () => interrupt(selected));
$("restart").addEventListener("click", () => restart(selected));
$("wanted").addEventListener("input", () => ($("wanted").dataset.typed = "yes"));
$("scale").addEventListener("submit", (event) => { event.preventDefault(); scale($("wanted").valueAsNumber); });
$("previous").addEventListener("click", () => turn(page - 1));
$("next").addEventListener("click", () => turn(page + 1));
$("find").addEventListener("input", () => turn(0));
$("state").addEventListener("change", () => turn(0));
$("every").addEventListener("change", () => {
  for (const row of chosenRows()) if ($("every").checked) selected.add(String(row.id)); else selected.delete(String(row.id));
  showEngines();
});
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    down = sort === button.dataset.sort ? !down : ["cpu", "memory", "queued", "done"].includes(button.dataset.sort);
    sort = button.dataset.sort;
    for (const th of document.querySelectorAll("#table th[aria-sort]")) th.removeAttribute("aria-sort");
    button.closest("th").setAttribute("aria-sort", down ? "descending" : "ascending");
    turn(0);
  });
}

// ---------------------------------------------------------------- clients, and tasks that have ended

function put(body, rows) { // texts into a table; cells that are right stay as they are
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, i) => {
    const tr = body.rows[i] ?? body.insertRow();
    row.forEach(([text, style], j) => {
      const cell = tr.cells[j] ?? tr.insertCell();
      set(cell, text);
      if (cell.className !== (style ?? "")) cell.className = style ?? "";
      if (style === "what" && cell.title !== text) cell.title = text;
    });
  });
}

function showClients() {
  const rows = [...clients.values()].sort((a, b) => a.since - b.since);
  put($("clients"), rows.map((row) => [
    [row.id], [row.connected ? `pid ${row.pid} on ${row.host}` : "has left"],
    [new Date(row.since * 1000).toLocaleTimeString([], { timeStyle: "short" })],
    [row.running.toLocaleString("en"), "number"], [row.queued.toLocaleString("en"), "number"],
    [row.runs.join(", ") || "–", "what"],
  ]));
  $("no-clients").hidden = rows.length > 0;
}

function showLatest() {
  const rows = blocks.slice(-LATEST).reverse();
  put($("latest"), rows.map((block) => [
    [block.what, "what"], [String(block.engine), "number"], [block.client], [block.tasks.toLocaleString("en"), "number"],
    [duration(block.end - block.begin), "number"], [block.failure ? failed(block.failure) : "done", block.failure ? "failed" : ""],
  ]));
  $("no-latest").hidden = rows.length > 0;
}

const failed = (kind) => (kind === "user" ? "raised" : kind);

// ---------------------------------------------------------------- the stream

let lively = true, drawn = []; // what is where, for the pointer
const still = matchMedia("(prefers-reduced-motion: reduce)");

function showStream() {
  const span = Number($("span").value), end = now(), begin = end - span;
  const lanes = new Map(visible.map((row, i) => [row.id, i]));
  const height = Math.max(6, Math.min(22, 320 / Math.max(1, lanes.size))), left = 44, foot = 18;
  const [context, width] = fitted($("stream"), Math.max(1, lanes.size) * height + foot);
  const x = (at) => left + ((at - begin) / span) * (width - left);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  const every = Math.ceil(14 / height);
  for (const [id, lane] of lanes) {
    context.fillStyle = ink("soft");
    context.fillRect(left, lane * height + 1, width - left, height - 2);
    context.fillStyle = ink("muted");
    context.textAlign = "right";
    if (lane % every === 0) context.fillText(String(id), left - 8, lane * height + height / 2);
  }
  context.textAlign = "center";
  for (let step = 0; step <= 4; step++) {
    const at = begin + (span * step) / 4;
    context.textAlign = step === 0 ? "left" : step === 4 ? "right" : "center";
    context.fillStyle = ink("muted");
    context.fillText(step === 4 ? "now" : `−${duration(end - at)}`, x(at), lanes.size * height + foot / 2 + 2);
  }
  drawn = [];
  const kinds = new Map();
  let tasks = 0, failures = 0;
  const rect = (lane, from, to, block, alpha) => {
    const a = Math.max(left, x(from)), b = Math.max(a + 1.5, x(to)), top = lane * height + 1, tall = height - 2;
    const shade = block.failure ? ink("bad") : colour(block.what);
    context.globalAlpha = alpha;
    context.fillStyle = shade;
    context.fillRect(a, top, b - a, tall);
    context.globalAlpha = 1;
    if (block.failure) { // not by colour alone
      context.fillStyle = ink("card");
      for (let s = a + 2; s < b - 1; s += 6) context.fillRect(s, top, 1.5, tall);
    }
    drawn.push({ a, b, top, bottom: top + tall, block });
    const name = block.failure ? "failed" : kind(block.what);
    kinds.set(name, shade);
  };
  for (const block of blocks) {
    if (block.end < begin) continue;
    const lane = lanes.get(block.engine);
    if (lane === undefined) continue;
    rect(lane, block.begin, Math.min(block.end, end), block, 1);
    tasks += block.tasks;
    if (block.failure) failures += 1;
  }
  let running = 0;
  for (const row of visible) {
    if (!row.task) continue;
    running += 1;
    rect(lanes.get(row.id), Math.max(begin, row.since), end, { ...row, what: row.running, begin: row.since, end, engine: row.id, client: row.task.split(":")[0], tasks: 1, runs: true }, 0.55);
  }
  const shown = [...kinds].slice(0, 12);
  if ($("legend").dataset.shown !== JSON.stringify(shown)) {
    $("legend").dataset.shown = JSON.stringify(shown);
    $("legend").replaceChildren(...shown.map(([name, shade]) => {
      const item = document.createElement("li");
      item.textContent = name.length > 48 ? `${name.slice(0, 47)}…` : name;
      item.style.setProperty("--colour", shade);
      return item;
    }));
  }
  const where = visible.length < engines.size ? ` on engines ${visible[0]?.id} to ${visible.at(-1)?.id}` : "";
  set($("stream-says"), `${count(tasks, "task")} ended${where} in the last ${duration(span)}${failures ? `, ${failures} failed` : ""}; ${running} run`);
  const label = `Task stream: ${$("stream-says").textContent}`;
  if ($("stream").getAttribute("aria-label") !== label) $("stream").setAttribute("aria-label", label);
  return tasks + running > 0;
}

$("stream").addEventListener("pointermove", (event) => {
  const hit = drawn.findLast((one) => event.offsetX >= one.a - 1 && event.offsetX <= one.b + 1 && event.offsetY >= one.top && event.offsetY <= one.bottom);
  const tip = $("tip");
  tip.hidden = !hit;
  if (!hit) return;
  const { block } = hit;
  const many = block.tasks > 1 ? `${block.tasks} tasks, ` : "";
  set(tip, `engine ${block.engine}: ${block.what}, ${many}${duration(block.end - block.begin)}${block.runs ? " so far" : ""}${block.failure ? `, ${failed(block.failure)}` : ""}, of ${block.client}`);
  tip.style.top = `${hit.bottom + 4}px`;
  tip.style.left = `${Math.max(0, Math.min(event.offsetX, $("stream").clientWidth - tip.offsetWidth))}px`;
});
$("stream").addEventListener("pointerleave", () => ($("tip").hidden = true));
$("span").addEventListener("change", () => (lively = true));

let last = 0;
function frame(at) {
  if (at - last >= (still.matches || engines.size > PAGE ? 1000 : 200) && lively) {
    last = at;
    lively = showStream();
  }
  requestAnimationFrame(frame);
}

setInterval(() => {
  for (const row of visible) if (row.task) fillRunning(trs.get(String(row.id)).cells[CELLS.indexOf("running") + 1], row);
}, 1000);

// ---------------------------------------------------------------- logs

let logText = "";

async function listLogs() {
  const chosen = $("log"), value = chosen.value;
  try {
    const names = ["", ...(await ask("logs"))];
    if ([...chosen.options].map((option) => option.value).join() !== names.join()) {
      chosen.replaceChildren(...names.map((name) => new Option(name || "choose", name)));
      chosen.value = names.includes(value) ? value : "";
    }
  } catch { /* the server is away, which is told above */ }
}

async function showLog() {
  if (!$("log").value) return;
  try {
    logText = await ask(`logs/${encodeURIComponent($("log").value)}?lines=500`);
  } catch (error) {
    logText = error.message;
  }
  putLog();
}

function putLog() {
  const text = $("grep").value.toLowerCase();
  const lines = logText.split("\n").filter((line) => line.toLowerCase().includes(text)).join("\n");
  const shown = lines || (text ? "no line has that" : "nothing was written"), place = $("lines");
  if (place.textContent === shown) return;
  const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 30;
  place.textContent = shown;
  if (atEnd || place.dataset.of !== $("log").value) place.scrollTop = place.scrollHeight;
  place.dataset.of = $("log").value;
}

async function openLog(name) {
  await listLogs();
  $("log").value = name;
  if ($("log").value !== name) {
    say(`${name} has no log on this host`, true);
    return;
  }
  await showLog();
  $("lines").focus();
  $("lines").scrollIntoView({ block: "nearest" });
}

$("log").addEventListener("focus", listLogs);
$("log").addEventListener("change", showLog);
$("grep").addEventListener("input", putLog);
setInterval(() => { if ($("follow").checked && !document.hidden) showLog(); }, 2000);

// ---------------------------------------------------------------- light and dark

const THEMES = ["system", "light", "dark"];
let theme = "system";
try { theme = localStorage.getItem("ipkernel_ext theme") ?? "system"; } catch { /* a frame may have no storage */ }

function useTheme() {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  set($("theme"), `Theme: ${theme}`);
  redraw();
}

function redraw() {
  inks.clear();
  showRates();
  showEngines();
  showStream();
  lively = true;
}

$("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try { localStorage.setItem("ipkernel_ext theme", theme); } catch { /* as above */ }
  useTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", redraw);

useTheme();
listLogs();
connect();
requestAnimationFrame(frame);
