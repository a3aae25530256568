"use strict";
/* Sort a table by the column whose head is pressed: up, down, then as it was. Cells without a value stay last. */
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.getAttribute("aria-sort") || "none"];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const value = (row) => row.cells[index].dataset.value;
      const rows = [...original];
      if (order !== "none") {
        rows.sort((a, b) => {
          const x = value(a), y = value(b);
          if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
          return sign * (index === 0 ? x.localeCompare(y) : Number(x) - Number(y) || 0);
        });
      }
      body.append(...rows);
    });
  });
}
/* A link to a run opens what holds it. */
function reveal() {
  let node = document.getElementById(location.hash.slice(1));
  for (const target = node; node; node = node.parentElement) {
    if (node.tagName === "DETAILS") node.open = true;
    if (!node.parentElement) target.scrollIntoView();
  }
}
addEventListener("hashchange", reveal);
if (location.hash) reveal();
