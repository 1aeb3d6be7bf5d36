"use strict";
// Draws the page from the JSON that it carries (page.cpp writes it). No library, no network: SVG and canvas by hand.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const policies = [...new Set(data.runs.map((run) => run.policy))];
const states = [...new Set(data.runs.map((run) => run.states))].sort((a, b) => a - b);
const codecs = [...new Set(data.runs.map((run) => run.codec))];
const shown = new Set(policies.slice(0, 8));
const shownRuns = () => data.runs.filter((run) => shown.has(run.policy));
const mainCodec = (run) => run.codec === codecs[0];

// ---- numbers and words

const fixed = (x, digits) => (x === null || x === undefined ? "–" : x.toFixed(digits));
const signed = (x, digits) => (x === null || x === undefined ? "–" : (x > 0 ? "+" : "") + x.toFixed(digits));
const megabytes = (bytes) => (bytes / 1e6 < 0.1 ? (bytes / 1e3).toFixed(1) + " kB" : (bytes / 1e6).toFixed(2) + " MB");
const grouped = (x) => Math.round(x).toLocaleString("en-US");
const withError = (x, error, digits, format = fixed) =>
  format(x, digits) + (error === null || error === undefined ? "" : " ± " + fixed(error, digits));
const nameOf = (run) => run.policy + ", k = " + run.states + (codecs.length > 1 ? ", " + run.codec : "");

// ---- elements

function element(tag, attributes = {}, parent = null, text = null) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}
function svg(tag, attributes, parent, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  parent.append(made);
  return made;
}
function table(id, heads, rows) {
  const made = element("table");
  const head = element("tr", {}, element("thead", {}, made));
  for (const text of heads) element("th", { scope: "col" }, head, text);
  const body = element("tbody", {}, made);
  for (const row of rows) {
    const line = element("tr", {}, body);
    for (const text of row) element("td", {}, line, String(text));
  }
  byId(id).replaceChildren(made);
}
function choices(id, options, onChange) {
  const select = byId(id);
  options.forEach((text, i) => element("option", { value: i }, select, text));
  select.addEventListener("change", onChange);
}
function tip(event, text) {
  const box = byId("tip");
  box.textContent = text;
  box.hidden = text === null;
  if (text === null) return;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4)) + "px";
  box.style.top = (event.clientY + 18 + height < innerHeight ? event.clientY + 18 : event.clientY - height - 10) + "px";
}
function describe(mark, text) {
  svg("title", {}, mark, text);
  mark.addEventListener("pointermove", (event) => { event.stopPropagation(); tip(event, text); });
  mark.addEventListener("pointerleave", (event) => tip(event, null));
}

// ---- how a policy looks

const colorOf = (policy) => "var(--c" + (policies.indexOf(policy) % 8) + ")";
const dashOf = (policy) => ["none", "7 3", "2 3", "9 3 2 3"][Math.floor(policies.indexOf(policy) / 8) % 4];
const lineOf = (policy) => "stroke:" + colorOf(policy) + ";stroke-dasharray:" + dashOf(policy);

/// A mark whose color stands for the policy and whose shape stands for the codec.
function mark(parent, run, x, y) {
  const fill = { class: "mark", style: "fill:" + colorOf(run.policy) };
  const corners = [null, [[-5, -5], [5, -5], [5, 5], [-5, 5]], [[0, -6.5], [6.5, 5], [-6.5, 5]],
    [[0, -7], [7, 0], [0, 7], [-7, 0]], [[0, 6.5], [6.5, -5], [-6.5, -5]]][codecs.indexOf(run.codec) % 5];
  if (!corners) return svg("circle", { cx: x, cy: y, r: 5, ...fill }, parent);
  return svg("polygon", { points: corners.map(([dx, dy]) => x + dx + "," + (y + dy)).join(" "), ...fill }, parent);
}

// ---- axes

function linearTicks(from, to, count) {
  const raw = (to - from) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((s) => s * power >= raw) * power;
  const ticks = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-9; ++i) ticks.push(i * step);
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}
function linear(values, label, { count = 5, zero = false, format = null } = {}) {
  let from = Math.min(...values, ...(zero ? [0] : [])), to = Math.max(...values, ...(zero ? [0] : []));
  const margin = (to - from || Math.abs(to) || 1) * 0.06;
  from -= zero && from === 0 ? 0 : margin;
  to += margin;
  const { ticks, digits } = linearTicks(from, to, count);
  return { from, to, label, ticks, at: (x) => (x - from) / (to - from), format: format ?? ((x) => x.toFixed(digits)) };
}
function logarithmic(values, label, ticks, format) {
  const from = Math.log2(Math.min(...values)) - 0.25, to = Math.log2(Math.max(...values)) + 0.25;
  return { from, to, label, ticks, at: (x) => (Math.log2(x) - from) / (to - from), format };
}
function powersOfTwo(values) {
  const ticks = [];
  for (let e = Math.ceil(Math.log2(Math.min(...values)) - 0.25); e <= Math.log2(Math.max(...values)) + 0.25; ++e) ticks.push(2 ** e);
  return ticks;
}
/// One policy that collapses would press all others into one line: then the axis is logarithmic.
function perplexityAxis(values) {
  const least = Math.min(...values), most = Math.max(...values), ticks = [];
  if (!(least > 0) || most < 2 * least) return linear(values, "perplexity");
  for (let power = 10 ** Math.floor(Math.log10(least)); power <= most; power *= 10) {
    for (const step of most < 8 * least ? [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8] : [1, 2, 5]) ticks.push(step * power);
  }
  return logarithmic(values, "perplexity", ticks.filter((x) => x > least * 0.9 && x < most * 1.1), String);
}

/// An empty chart as wide as its place: {root, x, y, left, top, width, height}; x and y turn values into pixels.
function chart(id, xAxis, yAxis, height = 320) {
  const holder = byId(id), outer = Math.max(280, holder.clientWidth);
  const left = 52, right = 12, top = 20, bottom = 42, width = outer - left - right;
  const root = svg("svg", { width: outer, height, viewBox: "0 0 " + outer + " " + height, role: "img" }, holder);
  holder.replaceChildren(root);
  const inner = height - top - bottom;
  const x = (v) => left + xAxis.at(v) * width, y = (v) => top + (1 - yAxis.at(v)) * inner;
  const everyTick = Math.ceil(xAxis.ticks.length / Math.max(2, width / 56));
  for (const v of yAxis.ticks) {
    svg("line", { class: "axis", x1: left, x2: left + width, y1: y(v), y2: y(v) }, root);
    svg("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, root, yAxis.format(v));
  }
  xAxis.ticks.forEach((v, i) => {
    if (i % everyTick === 0) svg("text", { x: x(v), y: top + inner + 18, "text-anchor": "middle" }, root, xAxis.format(v));
  });
  svg("text", { x: left - 40, y: 12 }, root, yAxis.label);
  svg("text", { x: left + width, y: height - 6, "text-anchor": "end" }, root, xAxis.label);
  return { root, x, y, left, top, width, height: inner };
}
const path = (points) => points.map(([x, y], i) => (i ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1)).join("");

/// A vertical line that follows the pointer from value to value; the tip lists the numbers there.
function cursor(c, values, text) {
  const line = svg("line", { class: "zero", y1: c.top, y2: c.top + c.height, visibility: "hidden" }, c.root);
  const field = svg("rect", { x: c.left, y: c.top, width: c.width, height: c.height, fill: "transparent" }, c.root);
  field.addEventListener("pointermove", (event) => {
    const at = event.clientX - c.root.getBoundingClientRect().left;
    const nearest = values.reduce((a, b) => (Math.abs(c.x(b) - at) < Math.abs(c.x(a) - at) ? b : a));
    line.setAttribute("x1", c.x(nearest));
    line.setAttribute("x2", c.x(nearest));
    line.setAttribute("visibility", "visible");
    tip(event, text(nearest));
  });
  field.addEventListener("pointerleave", (event) => { line.setAttribute("visibility", "hidden"); tip(event, null); });
}

// ---- the charts

function drawQuality() {
  const runs = shownRuns().filter(mainCodec), short = data.shorter_context ?? [];
  const values = [data.full, ...runs, ...short].flatMap((r) => [r.ppl - (r.ppl_error ?? 0), r.ppl + (r.ppl_error ?? 0)]);
  const c = chart("quality", logarithmic(states, "states k", states, String), perplexityAxis(values));
  svg("line", { class: "full", x1: c.left, x2: c.left + c.width, y1: c.y(data.full.ppl), y2: c.y(data.full.ppl) }, c.root);
  if (short.length) svg("path", { class: "short", d: path(short.map((r) => [c.x(r.states), c.y(r.ppl)])) }, c.root);
  cursor(c, states, (k) => [
    "k = " + k,
    ...runs.filter((r) => r.states === k).sort((a, b) => a.ppl - b.ppl)
      .map((r) => r.policy + ": " + withError(r.ppl, r.ppl_error, 2)),
    ...short.filter((r) => r.states === k).map((r) => "shorter context: " + fixed(r.ppl, 2)),
    "full: " + fixed(data.full.ppl, 2)].join("\n"));
  for (const policy of policies) {
    const own = runs.filter((r) => r.policy === policy).sort((a, b) => a.states - b.states);
    if (!own.length) continue;
    svg("path", { class: "line", style: lineOf(policy), d: path(own.map((r) => [c.x(r.states), c.y(r.ppl)])) }, c.root);
    for (const r of own) {
      const x = c.x(r.states);
      if (r.ppl_error) {
        svg("line", { style: "stroke:" + colorOf(policy), x1: x, x2: x, y1: c.y(r.ppl - r.ppl_error), y2: c.y(r.ppl + r.ppl_error) }, c.root);
      }
      describe(svg("circle", { class: "mark", style: "fill:" + colorOf(policy), cx: x, cy: c.y(r.ppl), r: 4.5 }, c.root),
        nameOf(r) + "\nperplexity " + withError(r.ppl, r.ppl_error, 2) + "\n" + withError(r.percent, r.percent_error, 2, signed) + " % above full");
    }
  }
}

/// The runs that no other run beats in both memory and perplexity, by rising memory.
function paretoFront(runs) {
  const front = [];
  for (const r of [...runs].sort((a, b) => a.cache_bytes - b.cache_bytes || a.ppl - b.ppl)) {
    if (!front.length || r.ppl < front[front.length - 1].ppl) front.push(r);
  }
  return front;
}
function drawMemory() {
  const runs = shownRuns(), all = [...runs, data.full];
  const bytes = all.map((r) => r.cache_bytes / 1e6);
  const c = chart("memory", logarithmic(bytes, "cache of one sequence", powersOfTwo(bytes), (x) => (x < 1 ? Math.round(1000 * x) + " kB" : x + " MB")),
    perplexityAxis(all.map((r) => r.ppl)));
  const front = paretoFront(all).map((r) => [c.x(r.cache_bytes / 1e6), c.y(r.ppl)]);
  svg("path", { class: "front", d: path(front) }, c.root);
  describe(svg("circle", { class: "mark", style: "fill:var(--ink)", cx: c.x(data.full.cache_bytes / 1e6), cy: c.y(data.full.ppl), r: 6 }, c.root),
    "full\nperplexity " + fixed(data.full.ppl, 2) + "\n" + megabytes(data.full.cache_bytes));
  for (const r of runs) {
    describe(mark(c.root, r, c.x(r.cache_bytes / 1e6), c.y(r.ppl)),
      nameOf(r) + (codecs.length > 1 ? "" : ", " + r.codec) + "\nperplexity " + fixed(r.ppl, 2) + "\n" + megabytes(r.cache_bytes));
  }
}

function drawPosition() {
  const k = states[Number(byId("position-states").value)];
  const runs = shownRuns().filter((r) => r.states === k && mainCodec(r) && r.nll_above_full);
  if (!runs.length) return byId("position").replaceChildren();
  const places = data.position_bins, values = runs.flatMap((r) => r.nll_above_full);
  const c = chart("position", linear([0, data.context], "position", { zero: true }), linear(values, "nats above full", { zero: true }));
  svg("line", { class: "zero", x1: c.left, x2: c.left + c.width, y1: c.y(0), y2: c.y(0) }, c.root);
  cursor(c, places, (p) => ["position " + p,
    ...runs.map((r) => [r, r.nll_above_full[places.indexOf(p)]]).sort((a, b) => a[1] - b[1])
      .map(([r, v]) => r.policy + ": " + signed(v, 3))].join("\n"));
  for (const r of runs) {
    svg("path", { class: "line", style: lineOf(r.policy), "pointer-events": "none", d: path(r.nll_above_full.map((v, i) => [c.x(places[i]), c.y(v)])) }, c.root);
  }
  table("position-table", ["position", ...runs.map((r) => r.policy)],
    places.map((p, i) => [p, ...runs.map((r) => signed(r.nll_above_full[i], 3))]));
}

/// One row per name, one mark per run: a dot plot.
function drawRows(id, names, dots, label, format) {
  const height = 62 + 30 * names.length, values = dots.map((d) => d.value);
  const rows = { label: "", ticks: [], at: (i) => 1 - (i + 0.5) / names.length, format: String };
  const c = chart(id, linear(values, label, { zero: true, format }), rows, height);
  names.forEach((name, i) => {
    svg("line", { class: "axis", x1: c.left, x2: c.left + c.width, y1: c.y(i), y2: c.y(i) }, c.root);
    svg("text", { x: c.left - 48, y: c.y(i) - 5 }, c.root, name);
  });
  for (const d of dots) describe(mark(c.root, d.run, c.x(d.value), c.y(d.row)), d.text);
}
function drawClasses() {
  if (!data.map.runs.length) return;
  const runs = data.map.runs.filter((r) => shown.has(r.policy) && r.states === mapped().states), names = data.map.classes.map((c) => c.name);
  const dots = runs.flatMap((r) => r.class_share.map((share, i) => ({
    run: { ...r, codec: codecs[0] }, row: i, value: share === null ? 0 : 100 * share,
    text: names[i] + "\n" + nameOf(r) + ": " + fixed(100 * share, 1) + " %" })).filter((_, i) => r.class_share[i] !== null));
  if (dots.length) drawRows("classes", names, dots, "percent of the steps possible", (x) => String(x));
}
function drawSpeed() {
  const runs = shownRuns();
  if (!runs.length) return byId("speed").replaceChildren();
  const rows = states.map((k) => "k = " + k);
  drawRows("speed", rows, runs.map((r) => ({ run: r, row: states.indexOf(r.states), value: r.tokens_per_second,
    text: nameOf(r) + "\n" + grouped(r.tokens_per_second) + " tokens per second" })), "tokens per second", grouped);
}

/// A cell for each layer (rows) and query head.
function drawHeads() {
  if (!data.heads) return;
  const near = data.heads.near, heads = near[0].length, left = 60, size = Math.min(48, Math.max(18, (byId("heads").clientWidth - left) / heads));
  const height = near.length * size + 28;
  const root = svg("svg", { width: left + heads * size, height, role: "img" }, byId("heads"));
  byId("heads").replaceChildren(root);
  near.forEach((row, layer) => {
    svg("text", { x: 0, y: 24 + layer * size + size / 2 }, root, "layer " + layer);
    row.forEach((share, head) => {
      if (layer === 0) svg("text", { x: left + (head + 0.5) * size, y: 14, "text-anchor": "middle" }, root, head);
      const place = { x: left + head * size + 1, y: 20 + layer * size + 1, width: size - 2, height: size - 2, rx: 3 };
      describe(svg("rect", { class: "cell", style: "fill:rgba(var(--held)," + (0.08 + 0.72 * share).toFixed(3) + ")", ...place }, root),
        "layer " + layer + ", head " + head + "\n" + fixed(100 * share, 1) + " % near");
    });
  });
  const ranked = near.flatMap((row, layer) => row.map((share, head) => [share, layer, head])).sort((a, b) => b[0] - a[0]);
  byId("heads-recent").textContent = data.heads.recent;
  table("heads-table", ["rank", "layer", "query head", "share"], ranked.map(([share, layer, head], i) => [i + 1, layer, head, fixed(share, 3)]));
}

// ---- retained states

const mapped = () => data.map.runs[Number(byId("map-run").value)];
const lastStep = () => data.map.tokens.length - 1;
/// The share of a layer's KV heads that hold a position at a step.
function heldShare(layer, position, step) {
  if (position > step) return 0;
  return layer.reduce((held, head) => held + (step <= head[position] ? 1 : 0), 0) / layer.length;
}
/// The steps that a position was held, as a share of those from it to the end; the mean over layers and KV heads.
function survival(run, position) {
  const lives = run.last_step.flatMap((layer) => layer.map((head) => head[position] - position + 1));
  return lives.reduce((a, b) => a + b, 0) / lives.length / (lastStep() - position + 1);
}
function drawMaps() {
  const run = mapped(), length = data.map.tokens.length, size = Math.min(length, 512);
  const [r, g, b] = getComputedStyle(document.documentElement).getPropertyValue("--held").split(",").map(Number);
  byId("map").replaceChildren();
  run.last_step.forEach((layer, number) => {
    const figure = element("figure", {}, byId("map"));
    const canvas = element("canvas", { width: size, height: size, role: "img", "aria-label": "Retained states of layer " + number }, figure);
    element("figcaption", {}, figure, "layer " + number);
    const context = canvas.getContext("2d"), image = context.createImageData(size, size);
    for (let y = 0; y < size; ++y) {
      const step = Math.floor(((y + 0.5) * length) / size);
      for (let x = 0; x <= y; ++x) {
        const share = heldShare(layer, Math.min(step, Math.floor(((x + 0.5) * length) / size)), step);
        image.data.set([r, g, b, Math.round(200 * share)], 4 * (y * size + x));
      }
    }
    context.putImageData(image, 0, 0);
    canvas.addEventListener("pointermove", (event) => readMap(event, canvas, layer, number));
    canvas.addEventListener("pointerleave", () => readMap(null));
  });
}
function readMap(event, canvas, layer, number) {
  document.querySelector(".colored .here")?.classList.remove("here");
  const place = byId("map-text");
  if (!event) return place.replaceChildren("Point at a panel.");
  const box = canvas.getBoundingClientRect(), length = data.map.tokens.length;
  const at = (offset, extent) => Math.max(0, Math.min(length - 1, Math.floor((offset / extent) * length)));
  const position = at(event.clientX - box.left, box.width), step = at(event.clientY - box.top, box.height);
  const share = heldShare(layer, position, step), tokens = data.map.tokens;
  const what = position > step ? "not read yet" : share === 1 ? "held" : share === 0 ? "forgotten" : "held by " + Math.round(100 * share) + " % of the KV heads";
  place.replaceChildren("Layer " + number + ", step " + step + ", position " + position + ", " + what + ": … " + tokens.slice(Math.max(0, position - 12), position).join(""));
  element("b", {}, place, tokens[position]);
  place.append(tokens.slice(position + 1, position + 13).join("") + " …");
  byId("colored").children[position]?.classList.add("here");
}
function drawText() {
  const run = mapped();
  byId("colored").replaceChildren(...data.map.tokens.map((token, position) => {
    const share = survival(run, position);
    const span = element("span", { style: "background:rgba(var(--held)," + (0.45 * share).toFixed(3) + ")" }, null, token);
    span.addEventListener("pointermove", (event) => tip(event, "position " + position + "\nheld " + fixed(100 * share, 0) + " % of the steps possible"));
    span.addEventListener("pointerleave", (event) => tip(event, null));
    return span;
  }));
  table("map-table", ["position", "token", "held, % of the steps possible", ...run.last_step.map((_, l) => "last step, layer " + l)],
    data.map.tokens.map((token, p) => [p, JSON.stringify(token), fixed(100 * survival(run, p), 1),
      ...run.last_step.map((layer) => [...new Set(layer.map((head) => head[p]))].join(" "))]));
}

// ---- recall

const percent = (x) => Math.round(100 * x) + " %";
/// A heat map for each policy and k: lengths down, depths across.
function drawRecall() {
  if (!data.recall) return;
  const kind = Number(byId("recall-kind").value), { lengths, depths, runs } = data.recall;
  byId("recall").replaceChildren();
  for (const run of runs.filter((r) => r.policy === "full" || shown.has(r.policy))) {
    const figure = element("figure", {}, byId("recall")), left = 34, cell = 36, row = 24;
    const root = svg("svg", { viewBox: "0 0 " + (left + cell * depths.length) + " " + (row * (lengths.length + 1)), role: "img" }, figure);
    element("figcaption", {}, figure, run.policy === "full" ? "full" : nameOf(run));
    depths.forEach((depth, d) => svg("text", { x: left + (d + 0.5) * cell, y: 14, "text-anchor": "middle" }, root, percent(depth)));
    lengths.forEach((length, l) => {
      svg("text", { x: left - 6, y: (l + 1) * row + 15, "text-anchor": "end" }, root, length);
      depths.forEach((depth, d) => {
        const score = run.scores[kind][l][d], place = { x: left + d * cell + 1, y: (l + 1) * row + 1, width: cell - 2, height: row - 2, rx: 3 };
        const where = nameOf(run) + "\n" + length + " tokens, depth " + percent(depth) + "\n";
        if (score === null) return describe(svg("rect", { class: "none", ...place }, root), where + "not measurable with this model");
        describe(svg("rect", { class: "found", style: "fill:var(--c0);fill-opacity:" + (0.06 + 0.6 * score).toFixed(2), ...place }, root), where + percent(score));
        svg("text", { class: "value", x: left + (d + 0.5) * cell, y: (l + 1) * row + 16, "text-anchor": "middle", "pointer-events": "none" }, root, Math.round(100 * score));
      });
    });
  }
}
function writeRecall() {
  const { kinds, lengths, depths, runs } = data.recall;
  choices("recall-kind", kinds, drawRecall);
  byId("recall-kind").value = 0;
  table("recall-table", ["policy", "k", "codec", "kind", "tokens", ...depths.map((d) => "depth " + percent(d))],
    runs.flatMap((run) => kinds.flatMap((kind, i) => lengths.map((length, l) => [run.policy, run.policy === "full" ? "" : run.states, run.codec, kind, length,
      ...run.scores[i][l].map((score) => (score === null ? "n. m." : percent(score)))]))));
}

// ---- repeats

const begun = (text, most = 140) => (text.length > most ? text.slice(0, text.lastIndexOf(" ", most)) + " …" : text);
const meanOf = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const withinTrained = (passage) => data.repeats.trained_context < 2 || passage.again[1] <= data.repeats.trained_context;
const groupOf = (run, passage) => run.groups.find((g) => g.within_trained === withinTrained(passage));
const trainedName = (within) => (data.repeats.trained_context < 2 ? "all" : within ? "read within the trained length" : "read beyond the trained length");

/// One mark per passage for full and each policy shown; pale where full gains too little.
function drawRepeats() {
  if (!data.repeats?.runs.length) return;
  const { passages, runs } = data.repeats, k = states[Number(byId("repeats-states").value)];
  const drawn = runs.filter((r, i) => i === 0 || (r.states === k && shown.has(r.policy)));
  const gains = drawn.flatMap((r) => r.nll_first.map((x, i) => x - r.nll_again[i]));
  const distances = passages.map((p) => p.distance);
  const powers = powersOfTwo(distances);
  const c = chart("repeats", logarithmic(distances, "tokens between the occurrences", powers, grouped), linear(gains, "gain, nats per token", { zero: true }));
  svg("line", { class: "zero", x1: c.left, x2: c.left + c.width, y1: c.y(0), y2: c.y(0) }, c.root);
  drawn.forEach((r, number) => passages.forEach((p, i) => {
    const x = c.x(p.distance), y = c.y(r.nll_first[i] - r.nll_again[i]);
    const made = number === 0 ? svg("circle", { class: "mark", style: "fill:var(--ink)", cx: x, cy: y, r: 5 }, c.root) : mark(c.root, r, x, y);
    if (!groupOf(r, p).measurable) made.style.opacity = 0.35;
    describe(made, (number === 0 ? "full" : nameOf(r)) + ": " + signed(r.nll_first[i] - r.nll_again[i], 2) + " nats per token\n“" + begun(p.text) + "”\n" +
      grouped(p.distance) + " tokens after the first occurrence" + (groupOf(r, p).measurable ? "" : "\nnot measurable with this model"));
  }));
}
function writeRepeats() {
  const { passages, runs } = data.repeats;
  byId("repeats-words").textContent = data.repeats.least_words;
  byId("repeats-cue").textContent = data.repeats.cue_words;
  byId("repeats-tokens").textContent = grouped(data.repeats.tokens);
  if (!runs.length) {
    element("li", {}, byId("repeats-groups"), passages.length ? "Not measured." : "The text has none.");
    for (const gone of document.querySelectorAll("#section-repeats :is(.controls, .chart, details)")) gone.remove();
    return;
  }
  for (const group of runs[0].groups) {
    const places = passages.filter((p) => withinTrained(p) === group.within_trained).map((p) => p.distance);
    element("li", {}, byId("repeats-groups"), group.passages + (group.passages === 1 ? " passage " : " passages ") + trainedName(group.within_trained) +
      " (" + [...new Set([Math.min(...places), Math.max(...places)])].map(grouped).join(" to ") + " tokens): the full cache gains " + withError(group.gain, group.gain_error, 3, signed) +
      (group.measurable ? "." : (group.gain_error === null ? ", and one passage has no standard error" : ", not more than two standard errors above zero") +
        ": not measurable with this model, so the marks are pale."));
  }
  choices("repeats-states", states.map(String), drawRepeats);
  byId("repeats-states").value = 0;
  const judged = (group, name, digits) => (group.measurable ? withError(group[name], group[name + "_error"], digits, signed) : "n. m.");
  table("repeats-table", ["policy", "k", "codec", "position", "passages", "first", "again", "gain", "again above full"],
    runs.flatMap((r, number) => r.groups.map((g) => {
      const of = (nll) => fixed(meanOf(nll.filter((_, i) => withinTrained(passages[i]) === g.within_trained)), 3);
      return [r.policy, number === 0 ? "" : r.states, r.codec, trainedName(g.within_trained), g.passages, of(r.nll_first), of(r.nll_again),
        number === 0 ? withError(g.gain, g.gain_error, 3, signed) : judged(g, "gain", 3), number === 0 ? "" : judged(g, "again_above_full", 3)];
    })));
  table("repeats-passages", ["passage", "words", "tokens", "first at", "again at", "distance", "full: first", "full: again"],
    passages.map((p, i) => [begun(p.text), p.words, p.again[1] - p.again[0], grouped(p.first[0]), grouped(p.again[0]), grouped(p.distance),
      fixed(runs[0].nll_first[i], 3), fixed(runs[0].nll_again[i], 3)]));
}

// ---- tables that do not change

function writeTables() {
  const short = data.shorter_context ?? [];
  table("quality-table", ["policy", "k", "codec", "perplexity", "% above full", "KL mean", "KL median", "KL 99 %", "same top token, %"],
    [["full", "", data.full.codec, withError(data.full.ppl, data.full.ppl_error, 3), "", "", "", "", ""],
      ...short.map((r) => ["shorter context", r.states, "", withError(r.ppl, r.ppl_error, 3), withError(r.percent, r.percent_error, 2, signed), "", "", "", ""]),
      ...data.runs.map((r) => [r.policy, r.states, r.codec, withError(r.ppl, r.ppl_error, 3), withError(r.percent, r.percent_error, 2, signed),
        fixed(r.kl_mean, 4), fixed(r.kl_median, 4), fixed(r.kl_99, 3), fixed(r.same_top === undefined ? null : 100 * r.same_top, 1)])]);
  const front = new Set(paretoFront([...data.runs, data.full]));
  table("memory-table", ["policy", "k", "codec", "cache", "perplexity", "on the front"],
    [data.full, ...data.runs].map((r) => [r.policy ?? "full", r.states ?? "", r.codec, megabytes(r.cache_bytes), fixed(r.ppl, 3), front.has(r) ? "yes" : ""]));
  table("classes-table", ["policy", "k", ...data.map.classes.map((c) => c.name + " (" + c.tokens + ")")],
    data.map.runs.map((r) => [r.policy, r.states, ...r.class_share.map((s) => (s === null ? "–" : fixed(100 * s, 1)))]));
  const window = (r) => data.runs.find((w) => w.policy === "window" && w.states === r.states && w.codec === r.codec);
  const cost = (r) => {
    if (!window(r)) return ["–", "–"];
    const own = 1e6 / r.tokens_per_second, plain = 1e6 / window(r).tokens_per_second;
    return [signed(own - plain, 1), signed(100 * (own / plain - 1), 1)];
  };
  table("speed-table", ["policy", "k", "codec", "tokens per second", "µs per token above window's", "%"],
    [["full", "", data.full.codec, grouped(data.full.tokens_per_second), "", ""],
      ...data.runs.map((r) => [r.policy, r.states, r.codec, grouped(r.tokens_per_second), ...cost(r)])]);
}
function writeHead() {
  byId("subject").textContent = data.model.name + " on " + data.text.name;
  byId("made").textContent = "multistate " + data.version + ", " + data.date + ", " + data.cpu + " (" + data.target + "): " + data.command;
  const facts = [["full perplexity", withError(data.full.ppl, data.full.ppl_error, 2)], ["full cache", megabytes(data.full.cache_bytes)],
    ["tokens", grouped(data.text.tokens)], ["sequences", data.text.sequences], ["context", grouped(data.context)],
    ["layers × KV heads", data.model.layers + " × " + data.model.kv_heads]];
  for (const [name, value] of facts) {
    const box = element("div", {}, byId("facts"));
    element("dt", {}, box, name);
    element("dd", {}, box, String(value));
  }
}
function writeLegend() {
  for (const policy of policies) {
    const button = element("button", { type: "button", "aria-pressed": shown.has(policy) }, byId("legend"));
    const sample = svg("svg", { viewBox: "0 0 22 8" }, button);
    svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-width": 3, style: lineOf(policy) }, sample);
    button.append(policy);
    button.addEventListener("click", () => {
      if (!shown.delete(policy)) shown.add(policy);
      button.setAttribute("aria-pressed", shown.has(policy));
      drawCharts();
    });
  }
  codecs.length > 1 && codecs.forEach((codec) => {
    const item = element("span", { class: "muted" }, byId("legend"));
    mark(svg("svg", { viewBox: "-8 -8 16 16", style: "width:1rem;height:.8rem" }, item), { policy: policies[0], codec }, 0, 0).style.fill = "var(--muted)";
    item.append(" " + codec);
  });
}

function drawCharts() {
  for (const draw of [drawQuality, drawMemory, drawPosition, drawRecall, drawRepeats, drawClasses, drawHeads, drawSpeed]) draw();
}
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  if (data.map.runs.length) drawMaps();
}

function writePage() {
  writeHead();
  writeLegend();
  writeTables();
  choices("position-states", states.map(String), drawPosition);
  byId("position-states").value = 0;
  choices("map-run", data.map.runs.map(nameOf), () => { drawMaps(); drawText(); drawClasses(); });
  byId("map-run").value = Math.max(0, data.map.runs.findIndex((r) => !r.policy.startsWith("window")));
  if (data.map.runs.length) {
    drawText();
    readMap(null);
  } else {
    byId("section-map").remove();
    byId("section-classes").remove();
  }
  if (!data.heads) byId("section-heads").remove();
  if (data.recall) writeRecall();
  else byId("section-recall").remove();
  if (data.repeats) writeRepeats();
  else byId("section-repeats").remove();
  drawCharts();
}

writePage();
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
byId("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawCharts(); } });
