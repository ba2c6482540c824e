"use strict";
(() => {
  const source = document.getElementById("gallery-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const STEP = 12;
  const STEP_OF_GROUP = 4;
  const find = (name) => document.getElementById(`gallery-${name}`);
  const list = find("list");
  const status = find("status");
  const copied = find("copied");
  const dialog = find("dialog");
  const fields = ["view", "label", "class", "order", "group", "search"];
  const field = Object.fromEntries(fields.map((name) => [name, find(name)]));
  let kind = "";
  let chosen = [];
  let open = -1;

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
  const counted = (number, one, many) => (number === 1 ? `1 ${one}` : `${number.toLocaleString("en")} ${many}`);
  const changes = () => field.view.value === "changes";

  // What is offered depends on the view.
  const orders = {
    changes: [
      ["size", "largest first", (a, b) => b.pixels - a.pixels || a.row - b.row],
      ["worst", "lowest IoU first", (a, b) => a.iou - b.iou || a.row - b.row],
      ["image", "by image", (a, b) => a.image.localeCompare(b.image, undefined, { numeric: true }) || a.row - b.row],
    ],
    regions: [
      ["worst", "lowest IoU first", (a, b) => a.iou - b.iou || b.wrong - a.wrong || a.row - b.row],
      ["wrong", "most wrong pixels first", (a, b) => b.wrong - a.wrong || a.row - b.row],
      ["best", "highest IoU first", (a, b) => b.iou - a.iou || a.row - b.row],
      ["image", "by image", (a, b) => a.image.localeCompare(b.image, undefined, { numeric: true }) || a.row - b.row],
    ],
  };
  const listed = (values, order) => {
    const seen = new Set(values);
    return [...order.filter((name) => seen.has(name)), ...[...seen].filter((name) => !order.includes(name)).sort()];
  };
  // Of each grouping: its name, its title, the names of its groups in order, and the group of a row.
  const groupings = {
    changes: [
      ["change", "cured, new, shared", ["cured", "new", "shared"], (row) => row.kinds[0]],
      ["type", "type of error", listed(data.changes.map((row) => row.type), data.types), (row) => row.type],
      ["class", "class", Object.keys(data.colors), (row) => row.class],
      ...data.factors.map((factor) => [
        `factor-${factor.place}`, `factor: ${factor.title}`, [...factor.fifths, "not measured"],
        (row) => factor.fifths[row.fifths[factor.place]] ?? "not measured",
      ]),
      ["none", "nothing", [""], () => ""],
    ],
    regions: [
      ["none", "nothing", [""], () => ""],
      ["cause", "dominant cause", listed(data.rows.map((row) => row.kinds[0]), data.kinds.regions), (row) => row.kinds[0]],
      ["class", "class", Object.keys(data.colors), (row) => row.class],
      ["label", "label", data.labels, (row) => row.label],
    ],
  };

  const layer = (uri, className) => {
    const image = element("img", className);
    image.src = uri;
    image.alt = "";
    return image;
  };
  const panel = (name, row, mask, className = "overlay") => {
    const image = data.images[row.image];
    const made = element("figure");
    const canvas = element("div", "canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}: ${row.class} in ${row.image}${row.label ? `, ${row.label}` : ""}`);
    canvas.style.setProperty("--ratio", image.size[1] / image.size[0]);
    const layers = element("div", "layers");
    if (image.image) layers.append(layer(image.image, "photo"));
    if (mask) layers.append(layer(mask, image.image ? `mask ${className}` : "mask"));
    layers.append(layer(image.outlines, "outlines"));
    if (row.box) {
      const [top, left, bottom, right] = row.box;
      const [height, width] = image.size;
      const box = element("div", "box");
      Object.assign(box.style, {
        top: `${(100 * top) / height}%`, left: `${(100 * left) / width}%`,
        height: `${(100 * (bottom - top)) / height}%`, width: `${(100 * (right - left)) / width}%`,
      });
      layers.append(box);
      const scale = Math.min(8, 0.6 / Math.max((bottom - top) / height, (right - left) / width));
      layers.style.setProperty("--scale", Math.max(1, scale).toFixed(2));
      layers.style.transformOrigin = `${(50 * (left + right)) / width}% ${(50 * (top + bottom)) / height}%`;
    }
    canvas.append(layers);
    made.append(canvas, element("figcaption", "", name));
    return made;
  };
  const panels = (row) => {
    const made = element("div", "pictures");
    const image = data.images[row.image];
    if (!image || (row.kinds.length && row.map === "")) {
      const why = row.picture ? "Not inside this file, to keep it small: see the full picture." : "Not drawn (--pictures).";
      made.append(element("p", "quiet", why));
      return made;
    }
    if (image.image) made.append(panel("image", row, ""));
    made.append(panel("truth", row, image.truth));
    if (row.box) for (const one of data.pair) made.append(panel(one.name, row, data.predictions[`${one.key}/${row.image}`]));
    else {
      made.append(panel("prediction", row, data.predictions[`${row.trial}/${row.image}`]));
      made.append(panel("this class", row, data.maps[row.map], "always"));
    }
    return made;
  };
  const title = (row) => {
    const made = element("h3");
    const swatch = element("span", "swatch");
    swatch.style.backgroundColor = data.colors[row.class];
    made.append(swatch, row.class);
    return made;
  };
  const told = (row) => {
    const made = element("div");
    made.append(title(row));
    if (row.box) made.append(element("div", "score", row.kinds[0]), element("div", "where", row.image));
    else {
      made.append(element("div", "score", `IoU ${row.iou.toFixed(3)}, ${row.wrong.toLocaleString("en")} px wrong`));
      made.append(element("div", "where", `${row.label} \u00b7 ${row.image}`), items("causes", row.causes));
    }
    made.append(items("facts", row.facts));
    if (row.picture) {
      const link = element("a", "", "Full picture");
      link.href = row.picture;
      made.append(link);
    }
    return made;
  };
  const card = (row) => {
    const made = element("article", `card${row.box ? " change" : ""}`);
    made.dataset.row = row.row;
    made.tabIndex = 0;
    made.setAttribute("aria-label", `${row.class} in ${row.image}`);
    const shown = panels(row);
    made.append(told(row), shown);
    if (shown.querySelector(".canvas")) {
      shown.classList.add("can-open");
      shown.addEventListener("click", () => enlarge(chosen.indexOf(row)));
    }
    return made;
  };

  const enlarge = (place) => {
    if (place < 0 || place >= chosen.length) return;
    open = place;
    const row = chosen[place];
    const shown = panels(row);
    find("large").replaceChildren(told(row), shown);
    find("large").className = `large${row.box ? " change" : ""}`;
    find("place").textContent = `${(place + 1).toLocaleString("en")} of ${chosen.length.toLocaleString("en")}`;
    find("previous").disabled = place === 0;
    find("next").disabled = place === chosen.length - 1;
    if (!dialog.open) dialog.showModal();
  };
  dialog.addEventListener("close", () => {
    const row = chosen[open];
    const back = row && list.querySelector(`.card[data-row="${row.row}"]`);
    if (back) back.focus();
  });
  find("previous").addEventListener("click", () => enlarge(open - 1));
  find("next").addEventListener("click", () => enlarge(open + 1));
  find("close").addEventListener("click", () => dialog.close());

  const area = find("area");
  const switches = { overlay: ["mask", "photo"], outlines: ["on", "off"], zoom: ["off", "on"] };
  const turn = (name) => {
    const [first, second] = switches[name];
    const now = area.dataset[name] === second ? first : second;
    area.dataset[name] = now;
    for (const button of area.querySelectorAll(`button[data-switch="${name}"]`)) {
      button.setAttribute("aria-pressed", String(now === "on" || now === "mask"));
    }
  };
  for (const button of area.querySelectorAll("button[data-switch]")) {
    button.addEventListener("click", () => turn(button.dataset.switch));
  }
  area.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const switched = { o: "overlay", e: "outlines", z: "zoom" }[event.key];
    if (switched) turn(switched);
    else if (step && dialog.open) enlarge(open + step);
    else if (step && event.target.closest(".card")) {
      const cards = Array.from(list.querySelectorAll(".card"));
      cards[cards.indexOf(event.target.closest(".card")) + step]?.focus();
    } else if (event.key === "Enter" && event.target.matches(".card")) {
      const row = Number(event.target.dataset.row);
      enlarge(chosen.findIndex((one) => one.row === row));
    } else return;
    event.preventDefault();
  });

  find("copy").addEventListener("click", async () => {
    const ids = Array.from(new Set(chosen.map((row) => row.image)));
    const text = ids.join("\n");
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      const helper = element("textarea");
      helper.value = text;
      document.body.append(helper);
      helper.select();
      done = document.execCommand("copy");
      helper.remove();
    }
    copied.textContent = done ? `${counted(ids.length, "image id", "image ids")} copied.` : "The browser does not let the page copy.";
  });

  const addGroup = (name, rows, step) => {
    const group = element("div", "group");
    if (name) {
      const heading = element("h3", "", name);
      heading.append(" ", element("span", "quiet", rows.length.toLocaleString("en")));
      group.append(heading);
    }
    const cards = element("div");
    const more = element("button", "more");
    more.type = "button";
    let shown = 0;
    const grow = () => {
      const next = rows.slice(shown, shown + (shown ? STEP : step));
      cards.append(...next.map(card));
      shown += next.length;
      more.hidden = shown >= rows.length;
      more.textContent = `Show more${name ? ` of ${name}` : ""} (${(rows.length - shown).toLocaleString("en")})`;
    };
    more.addEventListener("click", () => {
      const place = shown;
      grow();
      cards.children[place]?.focus();
    });
    grow();
    group.append(cards, more);
    list.append(group);
  };
  const matches = (row, wanted) =>
    (changes() || !field.label.value || row.label === field.label.value) &&
    (!field.class.value || row.class === field.class.value) &&
    (!wanted || [row.image, row.type ?? "", ...(row.causes ?? [])].some((one) => one.toLowerCase().includes(wanted)));
  const update = () => {
    const wanted = field.search.value.trim().toLowerCase();
    const rest = (changes() ? data.changes : data.rows).filter((row) => matches(row, wanted));
    for (const chip of find("kinds").children) {
      const number = rest.filter((row) => !chip.dataset.kind || row.kinds.includes(chip.dataset.kind)).length;
      chip.querySelector("span").textContent = number.toLocaleString("en");
      chip.setAttribute("aria-pressed", String(chip.dataset.kind === kind));
    }
    const view = field.view.value;
    const order = orders[view].find(([name]) => name === field.order.value)[2];
    const [, , names, groupOf] = groupings[view].find(([name]) => name === field.group.value);
    const sorted = rest.filter((row) => !kind || row.kinds.includes(kind)).sort(order);
    const groups = new Map(names.map((name) => [name, []]));
    for (const row of sorted) groups.get(groupOf(row)).push(row);
    const filled = Array.from(groups).filter(([, rows]) => rows.length);
    chosen = filled.flatMap(([, rows]) => rows);
    list.replaceChildren();
    copied.textContent = "";
    for (const [name, rows] of filled) addGroup(name, rows, name ? STEP_OF_GROUP : STEP);
    const images = new Set(chosen.map((row) => row.image)).size;
    const what = changes() ? counted(chosen.length, "component", "components") : counted(chosen.length, "failure", "failures");
    status.textContent = chosen.length ? `${what} in ${counted(images, "image", "images")}` : "No failure matches.";
    find("copy").hidden = !chosen.length;
  };
  const offer = (select, entries) => {
    const before = select.value;
    select.replaceChildren(...entries.map(([name, text]) => new Option(text, name)));
    if (entries.some(([name]) => name === before)) select.value = before;
  };
  const show = () => {
    const view = field.view.value;
    kind = "";
    field.label.parentNode.hidden = changes();
    field.order.replaceChildren();
    field.group.replaceChildren();
    offer(field.order, orders[view]);
    offer(field.group, groupings[view]);
    for (const one of document.querySelectorAll("#failures [data-view]")) one.hidden = one.dataset.view !== view;
    const chip = (name, text) => {
      const made = element("button", "", text);
      made.type = "button";
      made.dataset.kind = name;
      made.append(element("span"));
      made.addEventListener("click", () => {
        kind = name === kind ? "" : name;
        update();
      });
      return made;
    };
    find("kinds").replaceChildren(chip("", "all"), ...data.kinds[view].map((name) => chip(name, name)));
    update();
  };
  for (const name of fields) field[name].addEventListener("input", name === "view" ? show : update);
  show();
})();
