"use strict";
/* Texts out of records are only ever set as text, never as markup. */
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const make = (tag, text = "", more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);

/* The runs and the points of figures: unpacked when they are first asked for. */
let unpacked;
function data() {
  unpacked ??= (async () => {
    const bytes = Uint8Array.from(atob(byId("data").textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  })();
  return unpacked;
}

/* Sort by the column whose head is pressed: up, down, then as it was. Cells without a value stay last. */
const originals = new WeakMap();
function sort(button) {
  const head = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
  const heads = [...head.parentElement.cells], index = heads.indexOf(head);
  if (!originals.has(body)) originals.set(body, [...body.rows]);
  const order = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
  heads.forEach((other) => other.setAttribute("aria-sort", other === head ? order : "none"));
  const sign = order === "descending" ? -1 : 1, rows = [...originals.get(body)];
  const value = (row) => row.cells[index].dataset.v;
  if (order !== "none") {
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (index === 0 ? x.localeCompare(y) : Number(x) - Number(y) || 0);
    });
  }
  body.append(...rows);
}

/* Filters: of each menu what is ticked is shown, and everything where nothing is; of columns what is ticked. */
const menus = all(".menu"), families = all(".family");
const starts = new Map(all(".menu input").map((box) => [box, box.checked]));
const boxes = (key) => all(`.menu[data-filter="${key}"] input`);
function chosen(key) {
  const values = boxes(key).filter((box) => box.checked).map((box) => box.value);
  return values.length ? new Set(values) : null;
}
/* Sections first; the tables of a section only when it is open, as many are never opened. */
function filter() {
  const [task, preset, device, solver, metric] = ["task", "preset", "device", "solver", "metric"].map(chosen);
  let shown = 0;
  for (const family of families) {
    const { task: t, preset: p, device: d } = family.dataset;
    let fits = (!task || task.has(t)) && (!preset || preset.has(p)) && (!device || device.has(d));
    fits &&= !solver || family.solvers.some((name) => solver.has(name));
    fits &&= !metric || family.metrics.some((name) => metric.has(name));
    family.hidden = !fits;
    family.current = false;
    shown += fits;
  }
  const left = families.filter((family) => !family.hidden);
  if (left.length === 1) left[0].open = true;
  for (const family of left) if (family.open) refine(family);
  for (const group of all(".group")) group.hidden = !all(".family:not([hidden])", group).length;
  for (const menu of menus) {
    const ticked = all("input", menu).filter((box) => box.checked);
    const changed = all("input", menu).some((box) => box.checked !== starts.get(box));
    menu.toggleAttribute("data-on", changed);
    menu.querySelector(".chosen").textContent =
      menu.dataset.filter === "column" || !ticked.length ? "" : `: ${ticked.length} of ${all("input", menu).length}`;
  }
  byId("nothing").hidden = shown > 0;
  byId("status").textContent = `${shown} of ${families.length} section${families.length === 1 ? "" : "s"} shown`;
}
function refine(family) {
  if (family.current) return;
  family.current = true;
  const solver = chosen("solver"), metric = chosen("metric"), hidden = new Set();
  for (const box of boxes("column")) if (!box.checked) hidden.add(box.value);
  if (metric) for (const box of boxes("metric")) if (!metric.has(box.value)) hidden.add(box.value);
  for (const holder of all(".table", family)) {
    const about = holder.dataset.metric, table = holder.querySelector("table");
    holder.hidden = Boolean(metric && about && !metric.has(about));
    let any = false;
    for (const row of table.tBodies[0].rows) {
      row.hidden = Boolean(solver && !row.classList.contains("baseline") && !solver.has(row.dataset.s));
      any ||= !row.hidden && row.classList.contains("solver");
    }
    if (solver && !any) holder.hidden = true;
    let count = 0;
    [...table.tHead.rows[0].cells].forEach((head, index) => {
      const hide = !about && hidden.has(head.dataset.k);
      count += !hide;
      if (head.hidden !== hide) {
        head.hidden = hide;
        for (const row of table.tBodies[0].rows) row.cells[index].hidden = hide;
      }
    });
    table.classList.toggle("wide", count > 12);
  }
  for (const part of all(".part", family)) {
    const tables = all(".table", part);
    part.hidden = tables.length > 0 && tables.every((holder) => holder.hidden);
  }
}
for (const family of families) {
  family.solvers = [...new Set(all("tr.solver", family).map((row) => row.dataset.s))];
  family.metrics = [...new Set([
    ...all(".table", family).map((holder) => holder.dataset.metric),
    ...all(".table[data-metric=''] th[data-k]", family).map((head) => head.dataset.k),
  ])];
  family.addEventListener("toggle", () => family.open && refine(family));
}

/* The runs behind a row. */
async function show(name) {
  const { rows, records } = await data();
  const row = rows[name.slice(1) - 1];
  if (!row) return;
  byId("runs-of").textContent = `${row.label}: ${row.runs.length} run${row.runs.length === 1 ? "" : "s"}`;
  const list = byId("runs").querySelector("div");
  list.replaceChildren(...row.runs.map((place) => {
    const run = records[place], box = make("div", "", { className: "run" });
    const file = run.link ? make("a", `${run.file}.json`, { href: run.link }) : `${run.file}.json`;
    const record = make("div", "record ");
    record.append(file, run.created ? `, ${run.created}` : "");
    const again = make("div", "again: ");
    again.append(make("code", run.command));
    const more = make("details");
    more.append(make("summary", "specification"), make("pre", run.spec));
    const head = `seed ${run.seed}: ${run.status}${run.reason ? `: ${run.reason}` : ""} (${run.instance})`;
    box.append(make("div", head), record, again, more);
    return box;
  }));
  if (!byId("runs").open) byId("runs").showModal();
}
byId("runs").addEventListener("close", () => {
  if (/^#r\d+$/.test(location.hash)) history.replaceState(null, "", "#");
});
/* A link leads to runs, or opens what holds its target. */
function reveal() {
  const name = decodeURIComponent(location.hash.slice(1));
  if (/^r\d+$/.test(name)) return show(name);
  const target = name && byId(name);
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", reveal);

/* Values: of the runs behind a cell, or of the point of a figure that is nearest to the mouse. */
const tip = byId("tip"), dot = make("span", "", { className: "dot" });
function say(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 4))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 12) : y + 18}px`;
}
function hush() {
  tip.hidden = true;
  dot.remove();
  for (const node of all("[aria-describedby=tip]")) node.removeAttribute("aria-describedby");
}
const rowOf = (cell) => (cell.querySelector("a[href^='#r']")?.hash.slice(1)) || cell.parentElement.dataset.r;
async function explain(cell, x, y) {
  const name = cell.dataset.v !== undefined && rowOf(cell);
  const key = cell.closest("table").tHead.rows[0].cells[cell.cellIndex].dataset.k;
  if (!name || !key) return hush();
  const { rows, records } = await data();
  const row = rows[name.slice(1) - 1], runs = row.runs.map((place) => records[place]);
  const told = runs.filter((run) => key in run.values).map((run) => `seed ${run.seed}: ${run.values[key]}`);
  const head = `${row.label}: ${Number(cell.dataset.v)}`;
  const rest = told.length > 8 ? [...told.slice(0, 8), `and ${told.length - 8} more`] : told;
  say([head, ...(told.length > 1 ? rest : [])].join("\n"), x, y);
}
const written = (value) => Number(value.toPrecision(4)).toString();
async function point(image, event) {
  const panels = (await data()).figures[image.dataset.f], box = image.getBoundingClientRect();
  const style = getComputedStyle(image), edge = parseFloat(style.paddingLeft);
  const width = box.width - 2 * edge, height = box.height - 2 * edge;
  let best = null, least = 24 ** 2;
  for (const panel of panels ?? []) {
    for (const [label, points] of panel.lines) {
      for (const [across, down, x, y] of points) {
        const left = edge + across * width, top = edge + down * height;
        const far = (box.left + left - event.clientX) ** 2 + (box.top + top - event.clientY) ** 2;
        if (far < least) [least, best] = [far, { label, panel, x, y, left, top }];
      }
    }
  }
  if (!best) return hush();
  dot.style.left = `${best.left}px`;
  dot.style.top = `${best.top}px`;
  image.parentElement.append(dot);
  const { label, panel, x, y } = best;
  say(`${label}\n${panel.y}: ${written(y)}\n${panel.x}: ${written(x)}`, event.clientX, event.clientY);
}
addEventListener("pointermove", (event) => {
  const on = event.target.closest?.("#results td, img[data-f]");
  if (event.pointerType === "touch") return;
  if (!on) return tip.hidden || hush();
  return on.tagName === "IMG" ? point(on, event) : explain(on, event.clientX, event.clientY);
});
function focused() {
  const target = document.activeElement, cell = target.closest("#results td");
  if (!cell || !target.matches(":focus-visible")) return hush();
  const box = cell.getBoundingClientRect();
  target.setAttribute("aria-describedby", "tip");
  return explain(cell, box.left, box.bottom - 10);
}
addEventListener("focusin", focused);
/* A focus may itself scroll the page, and what it says is to stay. */
addEventListener("scroll", () => (document.querySelector("[aria-describedby=tip]") ? focused() : hush()), { passive: true });

addEventListener("click", (event) => {
  const target = event.target;
  const button = target.closest("thead button");
  if (button) return sort(button);
  for (const menu of menus) if (menu.open && !menu.contains(target)) menu.open = false;
  const cell = target.closest("#results td");
  if (cell && !target.closest("a") && !getSelection().toString() && rowOf(cell)) location.hash = rowOf(cell);
  const link = target.closest("a[href^='#']");
  if (link && link.hash === location.hash) reveal();
  if (target.closest("#runs > button") || target === byId("runs")) byId("runs").close();
  if (target.id === "reset") {
    for (const [box, start] of starts) box.checked = start;
    filter();
  }
  if (target.id === "open") for (const details of all(".family:not([hidden]), .family:not([hidden]) .part")) details.open = true;
  if (target.id === "close") for (const details of all(".family, .part")) details.open = false;
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  hush();
  for (const menu of menus) {
    if (!menu.open) continue;
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
/* Paper cannot be opened: footnotes are printed with their tables. */
addEventListener("beforeprint", () => all(".more:not([open])").forEach((notes) => {
  notes.open = true;
  notes.dataset.closed = "";
}));
addEventListener("afterprint", () => all(".more[data-closed]").forEach((notes) => {
  notes.open = false;
  delete notes.dataset.closed;
}));
addEventListener("change", (event) => event.target.closest(".menu") && filter());
filter();
reveal();
