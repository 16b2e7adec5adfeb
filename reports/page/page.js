// Sorting, filtering and pointing. Without this script the page is complete,
// only still.
//
// The choice stands in the URL's fragment, "#filter=soft&sort=accuracy&
// order=descending", so that a link shows what its sender saw. A fragment
// without "=" is the anchor of a row or a section, and left alone.

const tables = [...document.querySelectorAll("table.ranking")];
const filterField = document.querySelector("#filter");
const filterCount = document.querySelector("#filter-count");
const state = {filter: "", sort: "", order: ""};

// --- Sorting ---

const rowsOf = (table) => [...table.tBodies[0].rows];

for (const table of tables) {
  rowsOf(table).forEach((row, index) => row.dataset.rank = index);
}

// The cell below a header, unless one that spans several columns stands there.
function cellAt(row, column) {
  let begin = 0;
  for (const cell of row.cells) {
    if (begin === column && cell.colSpan === 1) return cell;
    begin += cell.colSpan;
  }
  return undefined;
}

// A number where the cell has one, else its text; undefined when it is empty.
function sortKey(row, column) {
  const cell = cellAt(row, column);
  if (cell === undefined) return undefined;
  if ("value" in cell.dataset) {
    return cell.dataset.value === "" ? undefined : Number(cell.dataset.value);
  }
  return cell.textContent.trim().toLowerCase();
}

// Rows without a value stay last, whichever way the others are sorted.
function compare(a, b, sign) {
  if (a === undefined || b === undefined) {
    return (a === undefined) - (b === undefined);
  }
  return sign * (a < b ? -1 : a > b ? 1 : 0);
}

function sortTable(table) {
  const headers = [...table.tHead.rows[0].cells];
  const column = headers.findIndex((th) => th.dataset.column === state.sort);
  for (const th of headers) th.removeAttribute("aria-sort");
  const rows = rowsOf(table);
  if (column >= 0) headers[column].setAttribute("aria-sort", state.order);
  const sign = state.order === "descending" ? -1 : 1;
  rows.sort((a, b) =>
      (column < 0 ? 0 : compare(sortKey(a, column), sortKey(b, column), sign)) ||
      a.dataset.rank - b.dataset.rank);
  table.tBodies[0].append(...rows);
}

// A first press puts the best first, a second the other way about, a third
// goes back to the ranking.
function press(th) {
  const first = th.dataset.better === "higher" ? "descending" : "ascending";
  if (state.sort !== th.dataset.column) {
    Object.assign(state, {sort: th.dataset.column, order: first});
  } else if (state.order === first) {
    state.order = first === "ascending" ? "descending" : "ascending";
  } else {
    Object.assign(state, {sort: "", order: ""});
  }
  show();
  remember();
}

for (const th of document.querySelectorAll("table.ranking th[data-column]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...th.childNodes);
  button.addEventListener("click", () => press(th));
  th.append(button);
}

// --- Filtering ---

// A row is shown when each word of the filter is in its variant or family.
function matches(row) {
  const text = `${row.dataset.variant} ${row.dataset.family}`.toLowerCase();
  return state.filter.toLowerCase().split(/[\s,]+/)
      .every((word) => text.includes(word));
}

function filterRows() {
  const hidden = new Set(), shown = new Set();
  for (const row of document.querySelectorAll("[data-variant]")) {
    row.hidden = !matches(row);
    (row.hidden ? hidden : shown).add(row.dataset.variant);
  }
  const all = hidden.size + shown.size;
  filterCount.textContent =
      state.filter === "" ? "" : `${shown.size} of ${all} variants`;
  document.dispatchEvent(
      new CustomEvent("mneme:filter", {detail: [...hidden]}));
}

filterField.addEventListener("input", () => {
  state.filter = filterField.value.trim();
  filterRows();
  remember();
});
filterField.closest("[hidden]").hidden = false;

// --- Pointing at a row finds it in the charts ---

function point(variant) {
  document.dispatchEvent(new CustomEvent("mneme:focus", {detail: variant}));
}

for (const row of document.querySelectorAll(
         ".ranking tr[data-variant], .capacity tr[data-variant]")) {
  for (const begin of ["mouseenter", "focusin"]) {
    row.addEventListener(begin, () => point(row.dataset.variant));
  }
  for (const end of ["mouseleave", "focusout"]) {
    row.addEventListener(end, () => point(null));
  }
}

// --- The fragment ---

function remember() {
  const fields = Object.entries(state).filter(([, value]) => value !== "");
  const fragment = new URLSearchParams(fields).toString();
  const page = location.href.split("#")[0];
  history.replaceState(null, "", fragment === "" ? page : `#${fragment}`);
}

function recall() {
  const fragment = location.hash.slice(1);
  if (fragment !== "" && !fragment.includes("=")) return;
  const fields = new URLSearchParams(fragment);
  for (const name of Object.keys(state)) state[name] = fields.get(name) ?? "";
  if (!["ascending", "descending"].includes(state.order)) {
    Object.assign(state, {sort: "", order: ""});
  }
  filterField.value = state.filter;
  show();
}

function show() {
  tables.forEach(sortTable);
  filterRows();
}

addEventListener("hashchange", recall);
recall();
