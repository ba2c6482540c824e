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

(() => {
  const source = document.getElementById("gallery-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const STEP = 12;
  const list = document.getElementById("gallery-list");
  const status = document.getElementById("gallery-status");
  const more = document.getElementById("gallery-more");
  const fields = ["label", "class", "order", "search"];
  const field = Object.fromEntries(fields.map((name) => [name, document.getElementById(`gallery-${name}`)]));
  const chips = Array.from(document.querySelectorAll("#gallery-causes button"));
  let cause = "";
  let chosen = [];
  let shown = 0;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const items = (className, texts) => {
    const made = element("ul", className);
    for (const text of texts) made.append(element("li", "", text));
    return made;
  };
  const picture = (name, uri, isMask, row) => {
    const made = element("figure");
    const image = element("img", isMask ? "mask" : "");
    image.src = uri;
    image.alt = `${name}: ${row.class} in ${row.image}, ${row.label}`;
    made.append(image, element("figcaption", "", name));
    return made;
  };
  const card = (row) => {
    const made = element("article", "card");
    made.dataset.row = row.row;
    made.tabIndex = -1;
    const told = element("div");
    const title = element("h3");
    const swatch = element("span", "swatch");
    swatch.style.backgroundColor = data.colors[row.class];
    title.append(swatch, row.class);
    told.append(
      title,
      element("div", "score", `IoU ${row.iou.toFixed(3)}, ${row.wrong.toLocaleString("en")} px wrong`),
      element("div", "where", `${row.label} \u00b7 ${row.image}`),
      items("causes", row.causes),
      items("facts", row.facts),
    );
    if (row.picture) {
      const link = element("a", "", "Full picture");
      link.href = row.picture;
      told.append(link);
    }
    const pictures = element("div", "pictures");
    if (row.map) {
      const image = data.images[row.image];
      pictures.append(
        picture("image", image.image, false, row),
        picture("truth", image.truth, true, row),
        picture("prediction", data.predictions[`${row.trial}/${row.image}`], true, row),
        picture("this class", row.map, true, row),
      );
    } else {
      const why = row.picture ? "Kept out of this file to keep it small: see the full picture." : "Not drawn (--pictures).";
      pictures.append(element("p", "quiet", why));
    }
    made.append(told, pictures);
    return made;
  };
  const orders = {
    worst: (a, b) => a.iou - b.iou || b.wrong - a.wrong || a.row - b.row,
    best: (a, b) => b.iou - a.iou || a.row - b.row,
    wrong: (a, b) => b.wrong - a.wrong || a.row - b.row,
    image: (a, b) => a.image.localeCompare(b.image, undefined, { numeric: true }) || a.row - b.row,
  };
  const grow = () => {
    const next = chosen.slice(shown, shown + STEP);
    list.append(...next.map(card));
    shown += next.length;
    more.hidden = shown >= chosen.length;
    const count = chosen.length === 1 ? "1 failure" : `${chosen.length.toLocaleString("en")} failures`;
    status.textContent = chosen.length ? `${count}, ${shown.toLocaleString("en")} shown` : "No failure matches.";
  };
  const matches = (row, wanted) =>
    (!field.label.value || row.label === field.label.value) &&
    (!field.class.value || row.class === field.class.value) &&
    (!wanted || row.image.toLowerCase().includes(wanted) || row.causes.some((one) => one.toLowerCase().includes(wanted)));
  const update = () => {
    const wanted = field.search.value.trim().toLowerCase();
    const rest = data.rows.filter((row) => matches(row, wanted));
    for (const chip of chips) {
      const number = rest.filter((row) => !chip.dataset.cause || row.kinds.includes(chip.dataset.cause)).length;
      chip.querySelector("span").textContent = number.toLocaleString("en");
      chip.setAttribute("aria-pressed", String(chip.dataset.cause === cause));
    }
    chosen = rest.filter((row) => !cause || row.kinds.includes(cause)).sort(orders[field.order.value]);
    shown = 0;
    list.replaceChildren();
    grow();
  };
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      cause = chip.dataset.cause === cause ? "" : chip.dataset.cause;
      update();
    });
  }
  for (const name of fields) field[name].addEventListener("input", update);
  more.addEventListener("click", () => {
    const place = shown;
    grow();
    const next = list.children[place];
    (next?.querySelector("a") ?? next)?.focus();
  });
  update();
})();
