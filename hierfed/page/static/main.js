"use strict";
/* The page: search, rate, list. Ratings live in this browser's storage; nothing here opens a connection. */
(function () {
  const MOST = 400, SHOWN = 20, FOUND = 12, REASONS = 2, MOST_COLUMNS = 600;
  const data = HIERFED_DATA, shared = hierfed.decoded(data), { constants } = shared, key = "hierfed ratings: " + data.name;
  const numberOf = new Map(data.ids.map((id, number) => [id, number])), columns = new Map();
  const lower = data.titles.map((title) => title.toLowerCase());
  const $ = (id) => document.getElementById(id);

  /* The policy forbids connections; a script that would leave the page by navigating is stopped here. */
  if (window.navigation)
    navigation.addEventListener("navigate", (event) => {
      const to = new URL(event.destination.url);
      const stays = to.pathname === location.pathname && to.protocol === location.protocol && to.host === location.host;
      if (!stays && event.cancelable && !event.downloadRequest && event.downloadRequest !== "") event.preventDefault();
    });
  window.open = () => null;

  function element(name, text, attributes) {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    for (const [attribute, value] of Object.entries(attributes || {})) made.setAttribute(attribute, value);
    return made;
  }

  function titleOf(item) {
    return data.years[item] ? data.titles[item] + " (" + data.years[item] + ")" : data.titles[item];
  }

  /* Ratings by the source's own id, so that they outlive a newer model; ids that this model lacks are kept, unused. */
  function checked(found) {
    if (typeof found !== "object" || found === null || Array.isArray(found)) throw new Error("expected stars by item id");
    for (const [id, stars] of Object.entries(found))
      if (typeof stars !== "number" || !(stars >= constants.lowest && stars <= constants.highest))
        throw new Error("item " + id + ": expected stars from " + constants.lowest + " to " + constants.highest);
    if (Object.keys(found).length > MOST) throw new Error("more than " + MOST + " ratings");
    return new Map(Object.entries(found));
  }

  function kept() {
    try {
      return checked(JSON.parse(localStorage.getItem(key) || "{}"));
    } catch (error) {
      $("own-status").textContent = "The kept ratings cannot be read: " + error.message;
      return new Map();
    }
  }

  let own = kept(), model;

  function keep() {
    try {
      if (own.size) localStorage.setItem(key, JSON.stringify(Object.fromEntries(own)));
      else localStorage.removeItem(key);
    } catch (error) {
      $("own-status").textContent = "This browser keeps nothing: export your ratings before you leave.";
    }
  }

  function rate(item, stars) {
    const id = data.ids[item];
    if (stars === null) own.delete(id);
    else if (own.size >= MOST && !own.has(id)) {
      $("own-status").textContent = "This page computes with at most " + MOST + " ratings.";
      return;
    } else own.set(id, stars);
    keep();
    refresh();
  }

  /* Half stars, or ten steps of another scale. */
  const step = constants.highest - constants.lowest <= 5 ? 0.5 : (constants.highest - constants.lowest) / 10;
  const choices = [];
  for (let k = 0; constants.lowest + k * step <= constants.highest + 1e-9; k++) choices.push(constants.lowest + k * step);

  const anyChooser = element("select");
  anyChooser.append(element("option", "not rated", { value: "" }));
  for (const stars of [...choices].reverse()) anyChooser.append(element("option", stars + " stars", { value: String(stars) }));

  function starsChooser(item) {
    const chooser = anyChooser.cloneNode(true);
    chooser.setAttribute("aria-label", "Your stars for " + titleOf(item));
    chooser.dataset.item = data.ids[item];
    const mine = own.get(data.ids[item]);
    chooser.value = mine === undefined ? "" : String(mine);
    chooser.addEventListener("change", () => rate(item, chooser.value === "" ? null : Number(chooser.value)));
    return chooser;
  }

  function rowOf(item) {
    const row = element("div", "", { class: "row" });
    row.append(element("span", titleOf(item), { class: "title" }), starsChooser(item));
    return row;
  }

  function lineOf(item) {
    const line = element("li");
    line.append(rowOf(item));
    return line;
  }

  /* What a click will need is made while nothing else is to do: one column of the kernel at a time. */
  const idle = window.requestIdleCallback ? (run) => requestIdleCallback(run) : (run) => setTimeout(run, 1);

  function prepare(items) {
    if (!items.length || columns.size >= MOST_COLUMNS) return;
    idle(() => {
      hierfed.columnOf(shared, items[0], columns);
      prepare(items.slice(1));
    });
  }

  /* A browser compiles what runs often. The first click does not wait for that: the same is computed before, for no one. */
  function warm(times) {
    const popular = Array.from({ length: shared.items }, (_, item) => item);
    popular.sort((a, b) => shared.raters.values[b] - shared.raters.values[a]);
    const rated = popular.slice(0, 4).map((item, k) => [item, choices[k % choices.length]]), none = new Map();
    const steps = rated.map(([item]) => () => hierfed.columnOf(shared, item, none));
    steps.push(() => {
      const someone = hierfed.userModel(shared, rated, none);
      hierfed.means(someone);
      for (const item of popular.slice(0, SHOWN)) {
        hierfed.distribution(someone, item);
        hierfed.reasons(someone, item);
      }
    });
    const next = (k) => k < times * steps.length && idle(() => (steps[k % steps.length](), k % steps.length || none.clear(), next(k + 1)));
    next(0);
  }

  function search() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), found = [];
    if (words.length)
      for (let item = 0; item < shared.items; item++) if (words.every((word) => lower[item].includes(word))) found.push(item);
    found.sort((a, b) => shared.raters.values[b] - shared.raters.values[a] || a - b);
    $("found").replaceChildren(...found.slice(0, FOUND).map(lineOf));
    prepare(found.slice(0, FOUND));
    $("found-status").textContent = words.length
      ? found.length + (found.length === 1 ? " title" : " titles") + (found.length > FOUND ? ", the most rated ones below" : "")
      : "";
  }

  /* The normal distribution function, to 1.5e-7 (Abramowitz and Stegun, 7.1.26). */
  function below(z) {
    const t = 1 / (1 + 0.3275911 * (Math.abs(z) / Math.SQRT2));
    const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    const erf = 1 - tail * Math.exp((-z * z) / 2);
    return z < 0 ? (1 - erf) / 2 : (1 + erf) / 2;
  }

  function chart(mean, deviation, words) {
    const bars = choices.map((stars, k) => {
      const upto = k === choices.length - 1 ? 1 : below((stars + step / 2 - mean) / deviation);
      return upto - (k ? below((stars - step / 2 - mean) / deviation) : 0);
    });
    const most = Math.max(...bars), made = element("div", "", { class: "chart", role: "img", "aria-label": words });
    for (const share of bars) made.append(element("i", "", { class: "h" + Math.round((10 * share) / most) }));
    return made;
  }

  const stars = (value) => value.toFixed(1);

  function unknown(item, found) {
    if (shared.raters.values[item] < Math.max(data.threshold, 1))
      return "Too few people rated it to be summed: this rests on what is known of the film, not on other people.";
    const { taste, film, noise } = found.parts;
    if (film > taste && film > noise) return "Least known: the film itself, since few people rated it.";
    return taste > noise ? "Least known: your taste in such films." : "Least known: how your stars vary from film to film.";
  }

  function recommended(item) {
    const found = hierfed.distribution(model, item), deviation = Math.sqrt(found.variance), half = data.quantile * deviation;
    const [mean, low, high] = [found.mean, found.mean - half, found.mean + half].map((each) => hierfed.within(constants, each));
    const words = "expected " + stars(mean) + " stars; nine in ten between " + stars(low) + " and " + stars(high);
    const line = element("li"), why = hierfed.reasons(model, item).sort((a, b) => Math.abs(b.moved) - Math.abs(a.moved));
    line.append(rowOf(item), chart(found.mean, deviation, "Stars of " + titleOf(item) + ": " + words), element("p", words, { class: "soft" }));
    /* First what helped, then what hurt. */
    const told = why.slice(0, 2 * REASONS).filter((each) => Math.abs(each.moved) >= 0.05).sort((a, b) => b.moved - a.moved);
    for (const each of told)
      line.append(
        element("p", (each.moved > 0 ? "+" : "\u2212") + Math.abs(each.moved).toFixed(2) + " because you gave " + titleOf(each.item) + " " + each.stars, { class: "reasons" }),
      );
    line.append(element("p", unknown(item, found), { class: "reasons" }));
    return line;
  }

  /* The items of the highest values, best first, of equal ones the lower number; without sorting all. */
  function highest(items, values, count) {
    const best = [];
    for (const item of items) {
      if (best.length === count && !(values[item] > values[best[count - 1]])) continue;
      let place = best.length;
      while (place && values[item] > values[best[place - 1]]) place--;
      best.splice(place, 0, item);
      if (best.length > count) best.pop();
    }
    return best;
  }

  /* The lines of the own ratings, by item. A new rating leaves the others' where they are. */
  const lines = new Map();

  function showOwn(items) {
    for (const [item, line] of lines)
      if (!items.has(item)) {
        line.remove();
        lines.delete(item);
      }
    let next = $("own").firstElementChild;
    for (const item of items)
      if (lines.has(item)) next = next.nextElementSibling;
      else {
        lines.set(item, lineOf(item));
        $("own").insertBefore(lines.get(item), next);
      }
  }

  function refresh() {
    const began = performance.now();
    const rated = [...own].filter(([id]) => numberOf.has(id)).map(([id, value]) => [numberOf.get(id), value]);
    model = hierfed.userModel(shared, rated, columns, model);
    const expected = hierfed.means(model), seen = new Set(model.items);
    const genre = $("genre").value === "" ? null : Number($("genre").value), least = Number($("raters").value), left = [];
    for (let item = 0; item < shared.items; item++)
      if (!seen.has(item) && shared.raters.values[item] >= least && (genre === null || data.genres[item].includes(genre))) left.push(item);
    const best = highest(left, expected, SHOWN);
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.item : undefined;
    $("items").replaceChildren(...best.map(recommended));
    showOwn(seen);
    $("own-status").textContent = rated.length ? rated.length + (rated.length === 1 ? " rating" : " ratings") + ", in this browser alone" : "No rating yet: find a title above.";
    $("list-status").textContent = rated.length ? "Ordered by expected stars, from your ratings." : "What suits someone of whom nothing is known.";
    for (const chooser of document.querySelectorAll("select[data-item]")) {
      const mine = own.get(chooser.dataset.item);
      const wanted = mine === undefined ? "" : String(mine);
      if (chooser.value !== wanted) chooser.value = wanted;
    }
    if (focused !== undefined && !document.activeElement.dataset.item) {
      const again = document.querySelector('select[data-item="' + CSS.escape(focused) + '"]');
      if (again) again.focus();
    }
    document.body.dataset.milliseconds = String(performance.now() - began);
  }

  function forget() {
    own = new Map();
    columns.clear();
    keep();
    refresh();
    search();
    $("own-status").textContent = "Forgotten: this browser keeps no rating of yours.";
  }

  function save() {
    const link = element("a", "", { download: "my-ratings.json" });
    link.href = URL.createObjectURL(new Blob([JSON.stringify(Object.fromEntries(own), null, 1)], { type: "application/json" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  async function take(file) {
    try {
      own = new Map([...own, ...checked(JSON.parse(await file.text()))]);
      keep();
      refresh();
      search();
    } catch (error) {
      $("own-status").textContent = "The file cannot be imported: " + error.message;
    }
  }

  data.genre_names.forEach((name, number) => $("genre").append(element("option", name, { value: String(number) })));
  $("about").textContent =
    "The shared model of " + data.name + ", made of sums over many people, with no rating and no person in it. Data: " +
    data.published.data + ". Licence: " + data.published.licence + ". Made by " + data.published.made_by + ".";
  $("leak").textContent = data.published.leak;
  for (const each of data.published.arrays)
    $("arrays").append(element("li", each.name + " [" + each.shape.join(", ") + "], " + each.type + ": " + each.holds));
  $("search").addEventListener("input", search);
  $("genre").addEventListener("change", refresh);
  $("raters").addEventListener("change", refresh);
  $("forget").addEventListener("click", forget);
  $("export").addEventListener("click", save);
  $("import").addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files[0]);
    event.target.value = "";
  });
  refresh();
  warm(3);
  document.body.dataset.ready = "yes";
})();
