// The results explorer: looks numbers up in the data scripts beside it (mmcoa/report/explorer.py) and computes none of its own.
// The choice lives in the address, explorer.html#profile=openmoji&model=mmcoa&attack=image, so that a view can be cited.
"use strict";
(function () {
  const root = document.getElementById("explorer");
  const form = root.querySelector("form");
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const TASKS = [["any", "all"], ["out_of_distribution", "out of distribution"], ["in_distribution", "in distribution"]];
  let state = {};  // what the reader asked for: {profile, model, against, sweep, task, seed, dataset, attack}

  function element(tag, content, attributes) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    for (const item of [].concat(content === undefined ? [] : content)) made.append(item);
    return made;
  }

  // Whole tenths as the report writes them: 61.3, and for differences a sign that is a true minus.
  const plain = (tenths) => (tenths / 10).toFixed(1);
  const signed = (tenths) => (tenths === 0 ? "0.0" : (tenths > 0 ? "+" : "−") + plain(Math.abs(tenths)));
  const joined = (items, last) => (items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} ${last} ${items[items.length - 1]}`);
  const distinct = (items) => [...new Set(items)];

  function readAddress() {
    const found = {};
    for (const pair of location.hash.slice(1).split("&")) {
      const [key, value] = pair.split("=");
      if (value !== undefined) {
        try { found[key] = decodeURIComponent(value); } catch { /* not an address of ours */ }
      }
    }
    return found;
  }

  function address(chosen) {
    const written = (value) => encodeURIComponent(value).replace(/%2F/g, "/").replace(/%2C/g, ",");
    return "#" + Object.entries(chosen).filter(([, value]) => value !== "").map(([key, value]) => `${key}=${written(value)}`).join("&");
  }

  // One control: [[value, label, whether it exists for what is chosen so far], ...]; returns the value that holds.
  function choose(name, options, fallback) {
    const there = options.filter((option) => option[2]).map((option) => option[0]);
    const wanted = state[name];
    const held = there.includes(wanted) ? wanted : there.includes(fallback) ? fallback : there[0];
    const select = form.elements[name];
    select.replaceChildren(...options.map(([value, label, exists]) => {
      const option = element("option", label, { value });
      option.disabled = !exists;
      option.selected = value === held;
      return option;
    }));
    select.disabled = there.length < 2;
    if (wanted && wanted !== held) missing.push(`${name} “${wanted}”`);
    return held;
  }
  let missing = [];  // what the address asked for and this study does not have

  // ---- what there is in the data of one study

  const sweepOf = (data, name) => data.evaluations.filter((evaluation) => evaluation.sweep === name);
  const taskOf = (evaluation, method, dataset) => new Map(evaluation.tasks[method]).get(dataset);
  // Seeds that a number exists for; a method with one seed is its own mean.
  const seedsOf = (data, method) => data.models.filter((model) => model[1] === method && model[2] !== null).map((model) => model[2]);

  function sharedSets(evaluation, methods, task) {
    const fits = (d, m) => [task, "zero_shot"].includes(taskOf(evaluation, m, d)) || task === "any";
    const sets = evaluation.tasks[methods[0]].map((pair) => pair[0]);
    return sets.filter((d) => methods.every((m) => taskOf(evaluation, m, d) !== undefined && fits(d, m)) &&
      (task === "any" || methods.some((m) => taskOf(evaluation, m, d) === task)));
  }

  const member = (table, seed) => table[seed] || table.mean;
  const triple = (numbers, unit, place) => numbers[unit].slice(3 * place, 3 * place + 3);  // value, low, high

  function difference(evaluation, a, b, seed, unit, place) {
    const turned = a > b;
    const [points, low, high] = triple(member(evaluation.pairs[turned ? `${b},${a}` : `${a},${b}`], seed), unit, place);
    return turned ? [-points, -high, -low] : [points, low, high];
  }

  // ---- the choice

  function resolve(data) {
    const methods = data.methods.map((pair) => pair[0]);
    const model = choose("model", data.methods.map(([name, label], m) => [name, label, sweepOf(data, "")[0].tasks[m] !== undefined]), "mmcoa");
    const a = methods.indexOf(model);
    const sweep = choose("sweep", data.sweeps.map(([name, label]) => [name, label, sweepOf(data, name)[0].tasks[a] !== undefined]), "");
    const evaluations = sweepOf(data, sweep), first = evaluations[0];
    const rivals = data.methods.map(([name, label], b) =>
      [name, label, b !== a && first.tasks[b] !== undefined && sharedSets(first, [a, b], "any").length > 0]);
    const against = choose("against", [["", "no other model", true], ...rivals], "");
    const chosen = against === "" ? [a] : [a, methods.indexOf(against)];
    const task = choose("task", TASKS.map(([name, label]) => [name, label, sharedSets(first, chosen, name).length > 0]), "any");
    const sets = sharedSets(first, chosen, task);
    const known = chosen.map((m) => seedsOf(data, m)).filter((seeds) => seeds.length > 0);
    const seeds = distinct(known.flat()).sort((x, y) => x - y).map(String);
    const numbers = chosen.length === 2 ? first.pairs[[...chosen].sort((x, y) => x - y).join(",")] : first.numbers[a];
    const seed = choose("seed", [["mean", "mean over seeds", true], ...seeds.map((s) => [s, `seed ${s}`, numbers[s] !== undefined])], "mean");
    const group = data.groups.findIndex((group) => group.join() === sets.join());
    const dataset = choose("dataset", [
      ["macro", `macro mean over ${sets.length} data sets`, group >= 0], ["each", "each data set", sets.length > 1],
      ...data.datasets.map(([name, label], d) => [name, label, sets.includes(d)])], "macro");
    const units = dataset === "macro" ? [data.datasets.length + group] : dataset === "each" ? sets
      : [data.datasets.findIndex((pair) => pair[0] === dataset)];
    const held = chooseAttacks(data, first);
    const attacks = held.length ? held : first.attacks;
    const view = { data, evaluations, sweep, chosen, seed, sets, units, attacks };
    view.state = { profile: data.profile, model, against, sweep, task: task === "any" ? "" : task, seed: seed === "mean" ? "" : seed,
      dataset: dataset === "macro" ? "" : dataset, attack: held.map((k) => data.attacks[k][0]).join(",") };
    return view;
  }

  // Attacks are boxes, so that several can be chosen; where none is, all that the evaluation has are shown.
  function chooseAttacks(data, first) {
    const wanted = (state.attack || "").split(",").filter(Boolean);
    const places = wanted.map((name) => data.attacks.findIndex((attack) => attack[0] === name));
    const held = places.filter((k) => first.attacks.includes(k));
    missing.push(...wanted.filter((_, i) => !first.attacks.includes(places[i])).map((name) => `attack “${name}”`));
    const focused = document.activeElement && document.activeElement.name === "attack" ? document.activeElement.value : null;
    part("attacks").replaceChildren(...data.attacks.map(([name, label], k) => {
      const box = element("input", [], { type: "checkbox", name: "attack", value: name });
      box.checked = held.includes(k);
      box.disabled = !first.attacks.includes(k);
      return element("label", [box, ` ${label}`]);
    }));
    const again = focused !== null && part("attacks").querySelector(`[value="${CSS.escape(focused)}"]`);
    if (again) again.focus();
    return held.sort((x, y) => x - y);
  }

  // One row an attack, data set and point of a sweep.
  function rowsOf(view) {
    const rows = [], { data } = view;
    for (const unit of view.units) for (const attack of view.attacks) for (const evaluation of view.evaluations) {
      const place = evaluation.attacks.indexOf(attack);
      const sets = unit < data.datasets.length ? [unit] : data.groups[unit - data.datasets.length];
      const name = unit < data.datasets.length ? data.datasets[unit][1] : "macro mean";
      rows.push({
        attack: data.attacks[attack][1], dataset: name, value: evaluation.value, n: sets.reduce((sum, d) => sum + evaluation.n[d], 0),
        numbers: view.chosen.map((m) => triple(member(evaluation.numbers[m], view.seed), unit, place)),
        gain: view.chosen.length === 2 ? difference(evaluation, ...view.chosen, view.seed, unit, place) : null,
      });
    }
    return rows;
  }

  function modelsOf(view, m) {
    const { data, seed } = view, of = data.models.map((model, i) => [i, ...model]).filter((model) => model[2] === m);
    return seed === "mean" || !of.some((model) => String(model[3]) === seed) ? of : of.filter((model) => String(model[3]) === seed);
  }

  function recordsOf(view) {
    const sets = view.units[0] < view.data.datasets.length ? view.units : view.sets;
    const ids = view.chosen.flatMap((m) => modelsOf(view, m).map((model) => model[0])), found = [];
    for (const { records } of view.evaluations) records.cell.forEach((cell, i) => {
      if (ids.includes(records.model[i]) && sets.includes(records.dataset[i])) {
        found.push({ cell, hash: records.hash[i], device: records.devices[records.device[i]], commit: records.commits[records.commit[i]],
          model: records.model[i] });
      }
    });
    return found;
  }

  // ---- what is shown

  function nameOf(view, m) {
    const seeds = seedsOf(view.data, m), label = view.data.methods[m][1];
    if (!seeds.length) return label;
    return view.seed !== "mean" && seeds.map(String).includes(view.seed) ? `${label}, seed ${view.seed}`
      : `${label}, ${distinct(seeds).length === 1 ? `seed ${seeds[0]}` : `mean over ${distinct(seeds).length} seeds`}`;
  }

  const interval = (low, high, write, dash) => element("span", `(${write(low)}${dash}${write(high)})`, { class: "interval" });

  // Of data set, attack and value of a sweep, a table names in its rows what differs between them, at least the attack.
  function keysOf(view, rows) {
    const all = [["dataset", "data set"], ["attack", "attack"], ["value", view.sweep]];
    const varied = all.filter(([key]) => distinct(rows.map((row) => row[key])).length > 1);
    return varied.length ? varied : [all[1]];
  }

  function table(view, rows, names) {
    const keys = keysOf(view, rows), labels = view.chosen.map((m) => view.data.methods[m][1]);
    const head = [...keys.map((key) => key[1]), "n", ...labels, ...(names.length === 2 ? ["difference"] : [])];
    const body = rows.map((row) => element("tr", [
      ...keys.map(([key]) => element("th", row[key], { scope: "row" })), element("td", row.n.toLocaleString("en")),
      ...row.numbers.map(([value, low, high]) => element("td", [plain(value), " ", interval(low, high, plain, "–")])),
      ...(row.gain ? [element("td", [signed(row.gain[0]), " ", interval(row.gain[1], row.gain[2], signed, " to ")])] : []),
    ]));
    return element("table", [element("caption", caption(view, rows, names)),
      element("thead", element("tr", head.map((text) => element("th", text, { scope: "col" })))), element("tbody", body)], { class: "table" });
  }

  function caption(view, rows, names) {
    const macro = view.units[0] >= view.data.datasets.length;
    const where = macro ? `macro mean over ${view.sets.length} data sets` : distinct(rows.map((row) => row.dataset)).length > 1 ? "by data set" : rows[0].dataset;
    const attack = view.attacks.length > 1 ? "" : `, attack: ${rows[0].attack}`;
    const what = `Accuracy (%) of ${joined(names, "and")} in the profile ${view.data.profile}, ${where}${attack}; 95 % intervals: `;
    const how = macro ? "bootstrap clustered by class within data sets." :
      "per-sample Wilson, too narrow where prompts are attacked, as these change a class at once.";
    const pair = names.length < 2 ? "" : ` Difference: ${names[0]} minus ${names[1]} on the same pictures, in points, with a paired bootstrap interval clustered by class.`;
    return `${what}${how}${pair} n: pictures.`;
  }

  function chart(view, rows, names) {
    const lines = rows.map((row) => {
      const label = keysOf(view, rows).map(([key]) => row[key]).join(", ");
      const marks = row.numbers.flatMap(([value, low, high], i) => {
        const bar = element("span", [], { class: `bar model${i}` }), dot = element("span", [], { class: `dot model${i}` });
        bar.style.left = `${low / 10}%`;
        bar.style.width = `${(high - low) / 10}%`;
        dot.style.left = `${value / 10}%`;
        return [bar, dot];
      });
      return element("div", [element("span", label, { class: "label" }), element("span", marks, { class: "track" })], { class: "line" });
    });
    const axis = element("span", ["0", "25", "50", "75", "100 %"].map((text) => element("span", text)), { class: "axis" });
    const key = names.map((name, i) => element("span", [element("span", [], { class: `dot model${i}` }), ` ${name}`], { class: "key" }));
    return element("div", [element("p", key), ...lines, element("div", [element("span", [], { class: "label" }), axis], { class: "line" })]);
  }

  function threats(view) {
    return element("dl", view.attacks.flatMap((k) => {
      const [, label, does, changes, knows] = view.data.attacks[k];
      const budget = view.data.sweeps.find((sweep) => sweep[0] === view.sweep)[2][k];
      const known = knows === "–" ? "" : ` The adversary knows: ${knows}.`;
      return [element("dt", label), element("dd", `${does}. Changes: ${changes}.${known} Budget: ${budget}.`)];
    }));
  }

  function trained(view, records) {
    return element("ul", view.chosen.map((m) => {
      const used = modelsOf(view, m).filter((model) => records.some((record) => record.model === model[0]));
      return element("li", `${nameOf(view, m)}: ${joined(distinct(used.map((model) => model[4])), "or")}` +
        (view.data.methods[m][0] === "none" ? ` (${view.data.base_model})` : ""));
    }));
  }

  function listing(view, records) {
    const body = records.map(({ cell, hash, device, commit }) => element("tr", [
      element("td", element("code", `mmcoa run ${view.data.profile} --only ${cell}`)), element("td", element("code", hash)),
      element("td", device), element("td", commit)]));
    const head = ["computed by", "identity", "device", "commit"].map((text) => element("th", text, { scope: "col" }));
    return element("table", [element("thead", element("tr", head)), element("tbody", body)], { class: "table" });
  }

  function show(data) {
    const view = resolve(data), rows = rowsOf(view), names = view.chosen.map((m) => nameOf(view, m)), records = recordsOf(view);
    part("table").replaceChildren(table(view, rows, names));
    part("chart").replaceChildren(chart(view, rows, names));
    part("threat").replaceChildren(threats(view));
    part("trained").replaceChildren(trained(view, records));
    part("count").textContent = records.length.toLocaleString("en");
    part("folder").textContent = `results/${data.profile}/cells.csv`;
    part("records").replaceChildren(listing(view, records));
    const where = view.units.length > 1 ? `${view.units.length} data sets` : rows[0].dataset;
    part("status").textContent = (missing.length ? `Not in these results: ${missing.join(", ")}. ` : "") +
      `Showing ${rows.length} ${rows.length === 1 ? "row" : "rows"}: ${names.join(" against ")}; ${where}.`;
    part("result").hidden = false;
    history.replaceState(null, "", address(view.state));
    part("link").value = location.href;
    state = view.state;
  }

  // Loads the data script of the chosen study once, then shows it.
  function update() {
    const studies = window.MMCOA_STUDIES || [];
    missing = [];
    const profile = studies.length && choose("profile", studies.map((name) => [name, name, true]), studies[0]);
    if (!profile) {
      part("status").textContent = "There is no data here: build the book with mmcoa book STUDY.";
    } else if ((window.MMCOA_EXPLORER || {})[profile]) {
      show(window.MMCOA_EXPLORER[profile]);
    } else {
      part("status").textContent = `Loading ${profile} …`;
      const script = element("script", [], { src: `${root.dataset.folder}/study_${profile}.js` });
      script.addEventListener("load", () => update());
      script.addEventListener("error", () => { part("status").textContent = `The data of ${profile} could not be loaded.`; });
      document.head.append(script);
    }
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    const selects = [...form.querySelectorAll("select")].map((select) => [select.name, select.value]);
    state = { ...Object.fromEntries(selects), attack: new FormData(form).getAll("attack").join(",") };
    update();
  });
  window.addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return;  // a link to a place on the page
    state = readAddress();
    update();
  });
  state = readAddress();
  update();
})();
