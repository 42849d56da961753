"use strict";
// The catalogue's page. What it shows was written by strangers: it becomes texts, never markup, and a link only if it
// is an address of https. The state that is worth a bookmark stands in the address, behind the #.

const ROWS = 50; // shown at a time: a browser draws them within a frame or two
const OLD_DAYS = 90;
const STALE_HOURS = 48; // of the watch, which asks once a day
const DAY = 86_400_000;
const SEVERITIES = ["NONE", "UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"];

const read = (id) => document.getElementById(id).textContent;
const catalogue = JSON.parse(read("catalogue"));
const recipes = JSON.parse(read("recipes"));
const now = Date.now();

// ---- Packages are rows, each once, of which the layers have the numbers ----

const packages = catalogue.packages.map(([name, version, license, bytes, publisher, attested]) => ({
  name, version, license, bytes, publisher, attested,
}));

// ---- Words ----

const number = new Intl.NumberFormat("en");
const collator = new Intl.Collator("en", { numeric: true });
const plural = (count, one, many = `${one}s`) => `${number.format(count)} ${count === 1 ? one : many}`;
const missing = (value) => value === null || value === undefined;

function megabytes(bytes) {
  return bytes < 100_000 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const share = (layer) => `${Math.round((layer.unzipped_bytes / layer.limit_bytes) * 100)} %`;

function seconds(value) {
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

function span(milliseconds) {
  const hours = milliseconds / 3_600_000;
  if (hours < 1) return plural(Math.max(0, Math.round(hours * 60)), "minute");
  if (hours < 48) return plural(Math.round(hours), "hour");
  const days = Math.round(hours / 24);
  return days < 730 ? plural(days, "day") : plural(Math.floor(days / 365), "year");
}

const title = (text) => text.charAt(0) + text.slice(1).toLowerCase();

function grantee(id) {
  if (id === "*") return "everybody";
  return id.startsWith("o-") ? `organization ${id}` : `account ${id}`;
}

// ---- Elements ----

/** Make an element. Attributes are ours; what strangers wrote comes as children, which become texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "click") element.addEventListener("click", value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => !missing(child)));
  return element;
}

/** A stranger's words, whose direction is their own and does not turn what stands beside them. */
const words = (text, tag = "bdi") => make(tag, { dir: "auto" }, String(text));
const unseen = (text) => make("span", { class: "unseen" }, text);
const dash = () => make("span", { class: "none" }, make("span", { "aria-hidden": "true" }, "–"), unseen("not known"));
const untold = (what) => make("span", { class: "none" }, make("span", { class: "what" }, `${what} `), "not told");
const none = (text) => make("span", { class: "none" }, text);

function time(iso, suffix = "") {
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return none("unknown");
  const utc = new Date(at).toISOString();
  return make("time", { datetime: utc, title: `${utc.slice(0, 16).replace("T", " ")} UTC` }, span(now - at) + suffix);
}

/** A link if the address is one of https that names nobody, otherwise its words alone. */
function link(address, text) {
  let url = null;
  try {
    url = new URL(address);
  } catch {
    // no address
  }
  if (!url || url.protocol !== "https:" || url.username || url.password) return words(text);
  return make("a", { href: url.href, rel: "noopener noreferrer", target: "_blank" }, words(text));
}

function bar(bytes, limit) {
  const part = Math.min(bytes / limit, 1);
  const filled = make("span", { class: part >= 0.9 ? "filled tight" : "filled" });
  filled.style.width = `${(part * 100).toFixed(1)}%`;
  return make("span", { class: "bar", "aria-hidden": "true" }, filled);
}

function pill(severity, text) {
  const known = SEVERITIES.includes(severity) ? severity : "UNKNOWN";
  return make("span", { class: `pill ${known.toLowerCase()}` }, text);
}

// ---- Copying ----

const announcer = document.getElementById("announcer");

function announce(text) {
  announcer.textContent = "";
  // A text that is the same as before would not be read again.
  setTimeout(() => { announcer.textContent = text; }, 50);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Not allowed, or no page of https.
  }
  const area = make("textarea", { class: "unseen", readonly: true, "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch {
    // nor that
  }
  area.remove();
  focused?.focus();
  return done;
}

/** A button that copies; where a browser refuses, the text is selected for the keyboard, or shown. */
function copyButton(what, text, source = null, ofWhich = "") {
  const button = make("button", { type: "button", class: "copy" },
    make("span", {}, "Copy"), make("span", { class: "what" }, ` ${what}`), unseen(ofWhich));
  button.addEventListener("click", async () => {
    if (await copied(text)) {
      button.firstChild.textContent = "Copied";
      button.classList.add("done");
      announce(`Copied ${what}${ofWhich}`);
      setTimeout(() => {
        button.firstChild.textContent = "Copy";
        button.classList.remove("done");
      }, 1600);
    } else if (source) {
      getSelection().selectAllChildren(source);
      announce("The browser does not let this page copy. The text is selected: copy it with the keyboard.");
    } else {
      prompt("The browser does not let this page copy. Copy it from here:", text);
    }
  });
  return button;
}

// ---- What is known of each layer, once ----

/** Text as it is searched: PEP 503 takes -, _ and . for the same in names. */
const normal = (text) => text.toLowerCase().replace(/[-_.]+/g, "-");
const packageTexts = packages.map((one) => normal(`${one.name}==${one.version} ${one.license ?? ""}`));
const names = catalogue.layers.map((layer) => layer.name);
const ranks = new Map([...names].sort(collator.compare).map((name, rank) => [name, rank]));

const layers = catalogue.layers.map((layer, position) => {
  const open = layer.findings.filter((finding) => missing(finding.ignored));
  const worst = open.reduce((highest, { severity }) => Math.max(highest, SEVERITIES.indexOf(severity), 0), -1);
  const target = `${layer.runtime ?? "?"} ${layer.architecture ?? "?"}`;
  const changes = layer.outdated?.changes ?? [];
  const built = Date.parse(layer.built ?? layer.released ?? "");
  const numbers = [...layer.packages, ...layer.system_packages];
  return {
    ...layer, position, open, worst, target, changes, numbers,
    built: Number.isNaN(built) ? null : built,
    asked: layer.asked ?? null,
    known: !missing(layer.built), // otherwise it was released before there was a catalogue, and empty means nothing
    old: now - built > OLD_DAYS * DAY,
    nameText: normal(layer.name),
    text: normal([
      layer.name, target, layer.description, layer.license, layer.input_key, layer.layer_version_arn,
      ...layer.findings.flatMap((finding) => [finding.id, ...finding.aliases, finding.package]),
    ].filter((text) => !missing(text)).join("\n")),
    row: null,
  };
});
const byName = new Map(layers.map((layer) => [layer.name, layer]));
const watched = !missing(catalogue.watch?.database);

let lines = null;
function details(layer) {
  lines ??= read("details").split("\n");
  return JSON.parse(lines[layer.position]);
}

// ---- The list: what is asked for, and what answers it ----

const FLAGS = {
  vulnerable: ["vulnerable", (layer) => layer.open.length > 0],
  outdated: ["outdated", (layer) => layer.changes.length > 0],
  old: [`not built for ${OLD_DAYS} days`, (layer) => layer.old],
  shared: ["shared", (layer) => layer.shared_with.length > 0],
};
const COLUMNS = {
  name: { label: "Layer", value: (layer) => ranks.get(layer.name), first: "ascending" },
  target: { label: "Target", value: (layer) => layer.target, first: "ascending" },
  version: { label: "Version", value: (layer) => layer.version, first: "descending" },
  size: { label: "Unzipped", value: (layer) => layer.unzipped_bytes, first: "descending" },
  import: { label: "Import", value: (layer) => layer.import_seconds, first: "descending" },
  packages: { label: "Packages", value: (layer) => (layer.known ? layer.numbers.length : null), first: "descending" },
  age: { label: "Age", value: (layer) => (missing(layer.built) ? null : -layer.built), first: "descending" },
  findings: {
    label: "Findings",
    value: (layer) => (layer.asked === null ? null : layer.worst * 1e6 + layer.open.length),
    first: "descending",
  },
  outdated: { label: "Outdated", value: (layer) => layer.outdated && layer.changes.length, first: "descending" },
};
const blank = () => ({ q: "", architecture: "", runtime: "", flags: new Set(), sort: "name", order: "ascending" });
let asked = blank();
let shown = ROWS;

/** Which packages have a term in them; the terms before this one are likely to be asked for again. */
const matches = new Map();
function matching(term) {
  if (!matches.has(term)) {
    if (matches.size > 50) matches.clear();
    matches.set(term, packageTexts.map((text) => text.includes(term)));
  }
  return matches.get(term);
}

const terms = () => asked.q.split(/\s+/).filter(Boolean).map(normal);

function found() {
  const wanted = terms().map((term) => [term, matching(term)]);
  const flags = [...asked.flags].map((flag) => FLAGS[flag][1]);
  const { value } = COLUMNS[asked.sort];
  const sign = asked.order === "ascending" ? 1 : -1;
  return layers
    .filter((layer) =>
      (!asked.architecture || layer.architecture === asked.architecture) &&
      (!asked.runtime || layer.runtime === asked.runtime) &&
      flags.every((test) => test(layer)) &&
      wanted.every(([term, has]) => layer.text.includes(term) || layer.numbers.some((one) => has[one])))
    .sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      const nameOrder = ranks.get(one.name) - ranks.get(other.name);
      if (missing(a) || missing(b)) return missing(a) - missing(b) || nameOrder; // what is not known comes last
      if (a === b) return nameOrder;
      return sign * (a < b ? -1 : 1);
    });
}

/** What a layer was found by, where its name does not show it. */
function hits(layer, wanted) {
  const hidden = wanted.filter((term) => !layer.nameText.includes(term));
  const has = hidden.map(matching);
  const listed = layer.numbers.filter((one) => has.some((rows) => rows[one])).map((one) => packages[one]);
  const advisories = layer.findings.filter((finding) =>
    hidden.some((term) => [finding.id, ...finding.aliases].some((id) => normal(id).includes(term))));
  const all = [...advisories.map(({ id }) => id), ...listed.map((one) => `${one.name} ${one.version}`)];
  if (!all.length) return [];
  const more = all.length > 3 ? `, ${number.format(all.length - 3)} more` : "";
  return ["has ", ...all.slice(0, 3).flatMap((text, index) => [index ? ", " : "", words(text)]), more];
}

function findingsCell(layer) {
  if (!watched && layer.asked === null) return none("not watched");
  if (layer.asked === null) return none("not asked yet");
  const ignored = layer.findings.length - layer.open.length;
  if (!layer.open.length) return none(ignored ? `${ignored} ignored` : "none");
  const severity = SEVERITIES[layer.worst];
  return pill(severity, `${number.format(layer.open.length)} · ${title(severity)}`);
}

function outdatedCell(layer) {
  if (!layer.outdated) return none("not known");
  if (layer.outdated.error) return none("not known");
  return layer.changes.length ? plural(layer.changes.length, "change") : none("no");
}

const address = (layer) => `#/layer/${encodeURIComponent(layer.name)}`;

function row(layer) {
  if (layer.row) return layer.row;
  const cell = (label, name, ...children) =>
    make("td", { role: "cell", class: name }, make("span", { class: "label", "aria-hidden": "true" }, label), children);
  const amount = missing(layer.unzipped_bytes) ? none("not known") : [
    make("span", { class: "amount" }, megabytes(layer.unzipped_bytes)), " ",
    make("span", { class: "share" }, share(layer)),
    bar(layer.unzipped_bytes, layer.limit_bytes),
  ];
  const badges = [
    layer.shared_with.length && make("span", { class: "badge" }, "shared"),
    layer.warnings && make("span", { class: "badge warn" }, plural(layer.warnings, "warning")),
  ].filter(Boolean);
  layer.row = make("tr", { role: "row" },
    make("th", { role: "rowheader", scope: "row", class: "name" },
      make("a", { href: address(layer) }, words(layer.name)), badges, make("span", { class: "hits" })),
    cell("Target", "target", words(layer.runtime ?? "?"), " ", words(layer.architecture ?? "?")),
    cell("Version", "version", missing(layer.version) ? none("?") : String(layer.version)),
    cell("Unzipped", "size", amount),
    cell("Import", "import", missing(layer.import_seconds) ? dash() : seconds(layer.import_seconds)),
    cell("Packages", "packages", layer.known ? number.format(layer.numbers.length) : dash()),
    cell("Age", layer.old ? "age old" : "age", missing(layer.built) ? none("unknown") : time(new Date(layer.built).toISOString())),
    cell("Findings", "findings", findingsCell(layer)),
    cell("Outdated", "outdated", outdatedCell(layer)),
    cell("ARN", "arn", layer.layer_version_arn ? copyButton("ARN", layer.layer_version_arn, null, ` of ${layer.name}`) : null));
  return layer.row;
}

// ---- The list's page ----

const list = document.getElementById("list");
const detail = document.getElementById("detail");
const controls = {};

function select(name, label, options, change) {
  const control = make("select", { id: name },
    options.map(([value, text]) => make("option", { value }, text)));
  control.addEventListener("change", () => change(control.value));
  controls[name] = control;
  return make("label", { class: "field", for: name }, make("span", {}, label), control);
}

function options(field, all) {
  const counts = new Map();
  for (const layer of layers) if (layer[field]) counts.set(layer[field], (counts.get(layer[field]) ?? 0) + 1);
  const known = [...counts].sort(([one], [other]) => collator.compare(one, other));
  return [["", all], ...known.map(([value, count]) => [value, `${value} (${number.format(count)})`])];
}

function sortBy(column) {
  const again = asked.sort === column;
  asked.order = again ? (asked.order === "ascending" ? "descending" : "ascending") : COLUMNS[column].first;
  asked.sort = column;
  changed();
}

function buildList() {
  if (!layers.length) {
    list.append(...emptyCatalogue());
    return;
  }
  controls.q = make("input", {
    id: "q", type: "search", autocomplete: "off", spellcheck: "false", autocapitalize: "none",
    placeholder: "name, urllib3==2.5.0, MIT, CVE-2025-…",
  });
  controls.q.addEventListener("input", () => { asked.q = controls.q.value; changed(); });
  const flags = Object.entries(FLAGS).map(([flag, [label, test]]) => {
    const count = layers.filter(test).length;
    controls[flag] = make("button", { type: "button", class: count ? `tile ${flag}` : "tile", "aria-pressed": "false", click: () => {
      if (!asked.flags.delete(flag)) asked.flags.add(flag);
      changed();
    } }, make("strong", {}, number.format(count)), " ", make("span", {}, label));
    return controls[flag];
  });
  const sorting = Object.entries(COLUMNS).map(([column, { label }]) => [column, label]);
  controls.head = new Map(Object.entries(COLUMNS).map(([column, { label }]) => [column,
    make("th", { role: "columnheader", scope: "col", class: column },
      make("button", { type: "button", click: () => sortBy(column) }, label))]));
  controls.body = make("tbody", { role: "rowgroup" });
  controls.table = make("table", { role: "table", class: "layers", "aria-label": "Layers" },
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, [...controls.head.values()],
      make("th", { role: "columnheader", scope: "col", class: "arn" }, "ARN"))),
    controls.body);
  controls.count = make("p", { class: "count", role: "status" });
  controls.more = make("button", { type: "button", class: "more", click: showMore });
  controls.clear = make("button", { type: "button", class: "plain", click: () => {
    asked = { ...blank(), sort: asked.sort, order: asked.order };
    changed();
    controls.q.focus();
  } }, "Clear search and filters");
  list.append(
    make("h1", { class: "unseen" }, `Layers of ${catalogue.stack}`),
    watchNotice() ?? "",
    make("div", { class: "tiles", role: "group", "aria-label": "Layers at a glance, and filters" },
      make("p", { class: "tile total" }, make("strong", {}, number.format(layers.length)), " ",
        make("span", {}, layers.length === 1 ? "layer" : "layers")), flags),
    make("search", { class: "controls" },
      make("label", { class: "field wide", for: "q" }, make("span", {}, "Search names, packages, licences, advisories"), controls.q),
      select("architecture", "Architecture", options("architecture", "All"), (value) => { asked.architecture = value; changed(); }),
      select("runtime", "Runtime", options("runtime", "All"), (value) => { asked.runtime = value; changed(); }),
      make("div", { class: "sorting" },
        select("sort", "Sort by", sorting, (value) => { asked.order = COLUMNS[value].first; asked.sort = value; changed(); }),
        make("button", { type: "button", class: "turn", click: () => sortBy(asked.sort) }, "Reverse"))),
    make("div", { class: "above" }, controls.count, controls.clear),
    controls.table,
    controls.more);
}

function emptyCatalogue() {
  const command = "layerdrop drop requirements.txt arm64/web";
  return [
    make("h1", {}, "There is no layer yet"),
    make("p", {}, "Drop a requirements file, and its layer is here as soon as it is released:"),
    make("div", { class: "recipe" }, make("pre", { tabindex: "0" }, make("code", {}, command)),
      copyButton("the command", command)),
    make("p", {}, "Or upload it to the stack’s bucket, as ", make("code", {}, "requirements/arm64/web/requirements.txt"),
      ". The manifest.json that appears beside it says what became of it."),
  ];
}

function watchNotice() {
  if (!watched) return null;
  const last = Date.parse(catalogue.watch.asked ?? "");
  if (Number.isNaN(last) || now - last < STALE_HOURS * 3_600_000) return null;
  return make("p", { class: "notice" }, `The vulnerability database was last asked ${span(now - last)} ago: findings may be missing.`);
}

function renderList() {
  if (!layers.length) return;
  const all = found();
  const wanted = terms();
  const visible = all.slice(0, shown);
  controls.body.replaceChildren(...visible.map((layer) => {
    const one = row(layer);
    const place = one.querySelector(".hits");
    const told = wanted.length ? hits(layer, wanted) : [];
    if (told.length || place.firstChild) place.replaceChildren(...told);
    return one;
  }));
  for (const [column, head] of controls.head) {
    if (column === asked.sort) head.setAttribute("aria-sort", asked.order);
    else head.removeAttribute("aria-sort");
  }
  for (const flag of Object.keys(FLAGS)) controls[flag].setAttribute("aria-pressed", String(asked.flags.has(flag)));
  if (controls.q.value !== asked.q) controls.q.value = asked.q;
  for (const name of ["architecture", "runtime", "sort"]) controls[name].value = asked[name];
  const narrowed = asked.q.trim() || asked.architecture || asked.runtime || asked.flags.size;
  controls.clear.hidden = !narrowed;
  controls.table.hidden = !all.length;
  controls.count.textContent = !all.length ? "No layer answers this" :
    narrowed ? `${number.format(all.length)} of ${plural(layers.length, "layer")}` : plural(layers.length, "layer");
  const left = all.length - visible.length;
  controls.more.hidden = left <= 0;
  controls.more.textContent = `Show ${number.format(Math.min(left, ROWS))} more of ${number.format(left)}`;
}

function showMore() {
  const first = shown;
  shown += ROWS;
  renderList();
  controls.body.rows[first]?.querySelector("a").focus();
}

let waiting = 0;
let noting = 0;

/** Something else is asked for: show it with the next frame, and note it in the address once it stays so. */
function changed() {
  shown = ROWS;
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    renderList();
  });
  clearTimeout(noting);
  noting = setTimeout(note, 250);
}

function note() {
  clearTimeout(noting);
  noting = 0;
  if (list.hidden || location.hash === listAddress()) return;
  try {
    history.replaceState(history.state, "", listAddress());
  } catch {
    // A browser may have had enough of them: the address is the only thing that stays behind.
  }
}

function listAddress() {
  const query = new URLSearchParams();
  const start = blank();
  for (const name of ["q", "architecture", "runtime", "sort", "order"]) {
    if (asked[name] !== start[name]) query.set(name, asked[name]);
  }
  for (const flag of asked.flags) query.set(flag, "1");
  const text = query.toString();
  return text ? `#/?${text}` : "#/";
}

function readAddress(query) {
  const given = new URLSearchParams(query);
  const wanted = blank();
  wanted.q = given.get("q") ?? "";
  wanted.architecture = given.get("architecture") ?? "";
  wanted.runtime = given.get("runtime") ?? "";
  wanted.flags = new Set(Object.keys(FLAGS).filter((flag) => given.get(flag)));
  if (Object.hasOwn(COLUMNS, given.get("sort") ?? "")) wanted.sort = given.get("sort");
  wanted.order = given.get("order") === "descending" ? "descending" : "ascending";
  return wanted;
}

// ---- One layer ----

// The roles are said although they are a table's own: where its style makes it cards, some browsers forget them.

function table(name, label, heads, rows) {
  return make("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
    make("table", { role: "table", class: name, "aria-label": label },
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" },
        heads.map((head) => make("th", { role: "columnheader", scope: "col" }, head)))),
      make("tbody", { role: "rowgroup" }, rows)));
}

function tableRow(head, ...cells) {
  return make("tr", { role: "row" }, make("th", { role: "rowheader", scope: "row" }, head),
    cells.map((content) => make("td", { role: "cell" }, content)));
}

function section(id, heading, ...children) {
  return make("section", { "aria-labelledby": id }, make("h2", { id }, heading), children);
}

function copyable(label, what, text) {
  const code = make("code", {}, words(text));
  return make("div", { class: "copyable" }, make("span", { class: "term" }, label), code, copyButton(what, text, code));
}

function publisher({ publisher: one, attested }) {
  if (!one) return attested === false ? none("not attested") : untold("publisher");
  const repository = one.repository ?? "";
  const name = repository || Object.entries(one).filter(([key, value]) => key !== "kind" && value)
    .map(([key, value]) => `${key} ${value}`).join(", ");
  const known = one.kind === "GitHub" && /^[\w.-]+\/[\w.-]+$/.test(repository);
  const where = known ? link(`https://github.com/${repository}`, repository) : words(name);
  return make("span", { title: [one.workflow, one.environment].filter(Boolean).join(", ") || null },
    words(one.kind ?? "?"), " ", where);
}

function packagesTable(label, numbers, system) {
  const rows = numbers.map((one) => packages[one])
    .sort((one, other) => collator.compare(one.name, other.name))
    .map((one) => tableRow(words(one.name), words(one.version), one.license ? words(one.license) : untold("licence"),
      ...(system ? [] : [missing(one.bytes) ? dash() : megabytes(one.bytes), publisher(one)])));
  const heads = ["Package", "Version", "Licence", ...(system ? [] : ["Unzipped", "Published by"])];
  return table("listed", label, heads, rows);
}

function finding(one) {
  const severity = one.severity ?? "UNKNOWN";
  const score = missing(one.score) ? "" : ` ${one.score}`;
  const aliases = one.aliases.filter((alias) => alias !== one.id);
  return make("li", { class: missing(one.ignored) ? "finding" : "finding ignored" },
    make("p", { class: "headline" },
      pill(severity, title(severity) + score), " ", words(one.package), " ", words(one.version), " ",
      make("span", { class: "ids" }, link(one.url, one.id), aliases.length ? [", ", words(aliases.join(", "))] : null)),
    one.summary ? make("p", { dir: "auto" }, one.summary) : null,
    make("p", { class: "aside" },
      one.fixed_in.length ? ["Fixed in ", make("strong", {}, words(one.fixed_in.join(", ")))] : "No version is known that mends it",
      one.first_seen ? [" · first seen ", time(one.first_seen, " ago")] : null),
    missing(one.ignored) ? null : make("p", { class: "aside" }, "Ignored: ", words(one.ignored)));
}

function findingsSection(layer) {
  if (layer.asked === null) {
    return section("findings", "Findings", make("p", { class: "none" }, watched ?
      "The vulnerability database has not been asked about this version yet." :
      "Nobody asks a vulnerability database about this stack’s layers."));
  }
  const ignored = layer.findings.filter((one) => !missing(one.ignored));
  const order = [...layer.open].sort((one, other) =>
    SEVERITIES.indexOf(other.severity) - SEVERITIES.indexOf(one.severity) || (other.score ?? 0) - (one.score ?? 0));
  return section("findings", layer.open.length ? `Findings (${number.format(layer.open.length)})` : "Findings",
    order.length ? make("ul", { class: "findings" }, order.map(finding)) :
      make("p", { class: "none" }, "No advisory is open about these packages."),
    ignored.length ? [make("h3", {}, `Ignored (${number.format(ignored.length)})`),
      make("ul", { class: "findings" }, ignored.map(finding))] : null,
    make("p", { class: "aside" }, "Asked ", time(layer.asked, " ago"), "."));
}

function outdatedSection(layer) {
  const { outdated } = layer;
  const told = () => {
    if (!outdated) return make("p", { class: "none" }, "Nobody has looked yet.");
    if (outdated.error) {
      return make("p", { dir: "auto" }, `A rebuild today would fail: ${outdated.error.message} (${outdated.error.code})`);
    }
    if (!outdated.changes.length) return make("p", { class: "none" }, "Nothing.");
    return table("changed", "What a rebuild would change", ["Package", "Now", "Then"], outdated.changes.map((change) =>
      tableRow(words(change.package), missing(change.from) ? none("not there") : words(change.from),
        missing(change.to) ? none("gone") : words(change.to))));
  };
  return section("outdated", "What a rebuild today would change", told(),
    outdated?.looked ? make("p", { class: "aside" }, "Looked ", time(outdated.looked, " ago"), ".") : null);
}

function changesOf(changes) {
  if (missing(changes)) return none("nothing is known of a version before");
  const parts = [
    ...changes.changed.map((one) => make("li", {}, words(one.package), " ", words(one.from), " → ", words(one.to))),
    ...changes.added.map((one) => make("li", { class: "added" }, "added ", words(one.package), " ", words(one.version))),
    ...changes.removed.map((one) => make("li", { class: "removed" }, "removed ", words(one.package), " ", words(one.version))),
  ];
  return parts.length ? make("ul", { class: "changes" }, parts) : none("the same packages");
}

function historySection(history) {
  return section("history", "Versions", history.length ? make("ol", { class: "history", reversed: true }, history.map((one) =>
    make("li", { value: String(one.version) },
      make("p", { class: "headline" }, make("strong", {}, `Version ${one.version}`),
        one.released ? [" ", time(one.released, " ago")] : null,
        missing(one.unzipped_bytes) ? null : ` · ${megabytes(one.unzipped_bytes)}`, " ",
        copyButton(`the ARN of version ${one.version}`, one.layer_version_arn)),
      changesOf(one.changes)))) : make("p", { class: "none" }, "No version is known."));
}

// A recipe is pasted into shells and templates: what is filled in must be of the forms that AWS gives.
const FORMS = {
  name: /^[a-zA-Z0-9_-]{1,140}$/,
  layer_version_arn: /^arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:layer:[a-zA-Z0-9_-]{1,140}:\d+$/,
  runtime: /^python3\.\d{1,2}$/,
  architecture: /^(arm64|x86_64)$/,
};
const EXAMPLE = /arn:aws:lambda:[a-z0-9-]+:\d{12}:layer:web-py313-arm64:\d+|web-py313-arm64|python3\.13|PYTHON_3_13|ARM_64|arm64|eu-central-1|111122223333/g;

/** A recipe of docs/use.md with this layer in the place of the example; null if a value is not what it should be. */
function filled(text, layer) {
  const fits = Object.entries(FORMS).every(([name, form]) => form.test(layer[name] ?? "")) &&
    /^[a-z0-9-]+$/.test(catalogue.region) && /^\d{12}$/.test(catalogue.account);
  if (!fits) return null;
  const values = {
    "web-py313-arm64": layer.name,
    "python3.13": layer.runtime,
    PYTHON_3_13: layer.runtime.toUpperCase().replace("PYTHON", "PYTHON_").replace(".", "_"),
    ARM_64: layer.architecture.toUpperCase().replace("ARM64", "ARM_64"),
    arm64: layer.architecture,
    "eu-central-1": catalogue.region,
    "111122223333": catalogue.account,
  };
  return text.replace(EXAMPLE, (part) => values[part] ?? layer.layer_version_arn);
}

let recipeShown = 0;

function recipesSection(layer) {
  const texts = recipes.map(({ text }) => filled(text, layer));
  if (texts.includes(null)) {
    return section("use", "Use it", make("p", { class: "none" }, "Of this version too little is known for a recipe."));
  }
  const tabs = recipes.map(({ label }, index) => make("button", {
    type: "button", role: "tab", id: `tab-${index}`, "aria-controls": `recipe-${index}`, click: () => choose(index),
  }, label));
  const panels = recipes.map(({ label, file, does }, index) => {
    const code = make("code", {}, texts[index]);
    return make("div", { role: "tabpanel", id: `recipe-${index}`, "aria-labelledby": `tab-${index}`, class: "recipe" },
      make("div", { class: "headline" }, make("p", { class: "aside" }, does),
        copyButton(`the recipe for ${label}`, texts[index], code)),
      make("pre", { tabindex: "0", role: "region", "aria-label": file }, code));
  });
  const choose = (index) => {
    recipeShown = index;
    tabs.forEach((tab, position) => {
      tab.setAttribute("aria-selected", String(position === index));
      tab.tabIndex = position === index ? 0 : -1;
      panels[position].hidden = position !== index;
    });
  };
  choose(recipeShown);
  const bar = make("div", { role: "tablist", "aria-label": "Recipes", class: "tabs" }, tabs);
  bar.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -recipeShown, End: tabs.length - 1 - recipeShown };
    if (!Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    choose((recipeShown + steps[event.key] + tabs.length) % tabs.length);
    tabs[recipeShown].focus();
  });
  return section("use", "Use it", bar, panels);
}

function facts(layer) {
  const rows = [
    ["Built", missing(layer.built) ? null : time(new Date(layer.built).toISOString(), " ago")],
    ["Released", layer.released ? time(layer.released, " ago") : null],
    ["Unzipped", missing(layer.unzipped_bytes) ? null : [
      `${megabytes(layer.unzipped_bytes)}, ${share(layer)} of Lambda’s ${megabytes(layer.limit_bytes)} (250 MiB)`,
      bar(layer.unzipped_bytes, layer.limit_bytes)]],
    ["Zipped", missing(layer.bytes) ? null : megabytes(layer.bytes)],
    ["Import, cold", missing(layer.import_seconds) ? null : seconds(layer.import_seconds)],
    ["Licence", layer.license ? words(layer.license) : null],
    ["May be used by", !layer.known ? null : layer.shared_with.length ? ["its own account and ", layer.shared_with.flatMap((id, index) =>
      [index ? ", " : "", words(grantee(id))])] : "its own account alone"],
    ["Rebuilt for fixes", !layer.known ? null : layer.watch.rebuild === "fixed" ? "yes" : "no"],
    ["Made from", layer.input_key ? make("code", {}, words(layer.input_key)) : null],
  ];
  return make("dl", { class: "facts" }, rows.map(([term, value]) =>
    make("div", {}, make("dt", {}, term), make("dd", {}, value ?? none("not known")))));
}

function renderDetail(name) {
  const layer = byName.get(name);
  const back = make("p", { class: "back" }, make("a", { href: listAddress() }, "← All layers"));
  if (!layer) {
    detail.replaceChildren(back, make("h1", { tabindex: "-1" }, "There is no such layer"),
      make("p", {}, "Nothing in this catalogue has the name ", words(name), "."));
    return;
  }
  const { warnings, history } = details(layer);
  detail.replaceChildren(
    back,
    make("h1", { tabindex: "-1" }, words(layer.name)),
    make("p", { class: "targets" },
      [layer.runtime, layer.architecture, missing(layer.version) ? null : `version ${layer.version}`]
        .filter(Boolean).map((text) => make("span", { class: "badge" }, words(text))),
      layer.open.length ? [" ", pill(SEVERITIES[layer.worst],
        `${plural(layer.open.length, "finding")}, ${layer.open.length > 1 ? "worst " : ""}${SEVERITIES[layer.worst].toLowerCase()}`)] : null),
    layer.description ? make("p", { class: "description", dir: "auto" }, layer.description) : "",
    make("div", { class: "copyables" },
      layer.layer_version_arn ? copyable("ARN", "the ARN", layer.layer_version_arn) : null,
      layer.pointer ? copyable("Pointer", "the pointer’s name", layer.pointer) : null),
    warnings.length ? make("section", { class: "warnings", "aria-labelledby": "warnings" },
      make("h2", { id: "warnings" }, plural(warnings.length, "warning")),
      make("ul", {}, warnings.map((text) => make("li", { dir: "auto" }, text)))) : "",
    make("div", { class: "columns" },
      make("div", { class: "side" },
        section("facts", "Facts", facts(layer)),
        recipesSection(layer)),
      make("div", { class: "main" },
        findingsSection(layer),
        outdatedSection(layer),
        section("packages", layer.known ? `Packages (${number.format(layer.packages.length)})` : "Packages",
          layer.packages.length ? packagesTable("Packages", layer.packages, false) :
            make("p", { class: "none" }, layer.known ? "There is none." : "None is known."),
          layer.system_packages.length ? [make("h3", {}, "Of the system"),
            packagesTable("Packages of the system", layer.system_packages, true)] : null),
        historySection(history))));
}

// ---- Where we are ----

let place = null; // where the list was left
let opened = null;

function route() {
  const [, name] = /^#\/layer\/([^?]*)$/.exec(location.hash) ?? [];
  if (name !== undefined) {
    if (!list.hidden) place = { scroll: scrollY };
    let wanted = name;
    try {
      wanted = decodeURIComponent(name);
    } catch {
      // a stray %: then it is the name as it stands
    }
    renderDetail(wanted);
    list.hidden = true;
    detail.hidden = false;
    document.title = `${wanted} – layers of ${catalogue.stack}`;
    scrollTo(0, 0);
    detail.querySelector("h1").focus({ preventScroll: true });
    opened = wanted;
    return;
  }
  const query = location.hash.startsWith("#/?") ? location.hash.slice(3) : "";
  if (location.hash !== listAddress()) {
    asked = readAddress(query);
    shown = ROWS;
    place = null;
  }
  renderList();
  detail.hidden = true;
  detail.replaceChildren();
  list.hidden = false;
  document.title = `Layers of ${catalogue.stack}`;
  if (opened !== null) {
    scrollTo(0, place?.scroll ?? 0);
    const from = byName.get(opened)?.row;
    if (from?.isConnected) from.querySelector("a").focus({ preventScroll: place !== null });
    opened = null;
  }
}

function header() {
  const asks = catalogue.watch?.asked;
  document.getElementById("written").append("written ", time(catalogue.written, " ago"),
    ...(watched ? [asks ? "; vulnerabilities asked " : "; vulnerabilities not asked yet", asks ? time(asks, " ago") : ""] :
      ["; vulnerabilities are not watched"]));
}

header();
buildList();
history.scrollRestoration = "manual";
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // an address of its own would lead away from the layer that is shown
  document.getElementById("main").focus();
});
// A click on a row that is meant for nothing in it opens the layer, as its name does.
list.addEventListener("click", (event) => {
  const one = event.target.closest("tbody tr");
  if (one && !event.target.closest("a, button") && !String(getSelection())) one.querySelector("a").click();
});
// Before the page is left, the address must say what is asked for: it is where the way back leads.
list.addEventListener("click", (event) => { if (event.target.closest("a") && noting) note(); }, true);
addEventListener("hashchange", route);
route();
