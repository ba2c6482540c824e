"use strict";
(() => {
  const themes = ["system", "light", "dark"];
  const button = document.querySelector("button.theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme || "system") + 1) % themes.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    button.textContent = `Theme: ${next}`;
  });
  const print = document.querySelector("button.print");
  print.hidden = false;
  print.addEventListener("click", () => {
    const all = document.documentElement.dataset.print !== "all";
    document.documentElement.dataset.print = all ? "all" : "summary";
    print.textContent = `On paper: ${all ? "everything" : "summary"}`;
    for (const part of document.querySelectorAll("main details")) part.open = all;
  });
})();

(() => {
  const key = (cell) => (cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value));
  const compare = (a, b) => {
    // Missing values go last in either direction.
    if (a === "" || b === "") return a === b ? 0 : null;
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  for (const header of document.querySelectorAll("table[data-table] th")) {
    header.querySelector("button").addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = header.closest("table").tBodies[0];
      const keyed = Array.from(body.rows, (row) => [key(row.cells[header.cellIndex]), row]);
      keyed.sort(([a], [b]) => {
        const order = compare(a, b);
        if (order === null) return a === "" ? 1 : -1;
        return descending ? -order : order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  }
})();
