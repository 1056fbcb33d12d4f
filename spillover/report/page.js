// What the page does beyond being read: a table to sort and filter, cells to open, examples to search, tips on marks.
// It asks no network. Everything that came from data becomes text by textContent, never markup. Without it, verdict,
// matrix, figures and tables stand there all the same.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  // An element: attributes by name, `on` listeners, children that are elements or text.
  function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.flat().filter((child) => child != null));
    return element;
  }
  const fill = (element, ...children) => element.replaceChildren(...children.flat().filter((child) => child != null));
  const some = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

  // Numbers come as tenths of a point. A real minus; what rounds to nothing has no sign.
  const points = (x) => (x == null ? "–" : (x / 10).toFixed(1).replace("-", "−"));
  const signed = (x) => (x > 0 ? "+" : "") + points(x);
  const between = (low, high, write) => `[${write(low)}, ${write(high)}]`;

  // --- the results table ------------------------------------------------------------------------

  const ROWS = 20;
  const { cells, rows } = data;
  const table = $("#results-table");

  // One object a row, made when the table is first drawn: what answered the same questions stands together.
  const place = (c) => [cells.test[c], cells.shots[c], cells.prompt[c], cells.draw[c], cells.variant[c]];
  const byPlace = (x, y) => x.reduce((order, value, i) => order || value - y[i], 0);
  const records = () => rows.cell.map((c, i) => ({
    place: place(c),
    variant: data.variants[cells.variant[c]].name,
    test: data.tests[cells.test[c]].title,
    role: data.roles[cells.role[c]],
    shots: cells.shots[c],
    prompt: data.prompts[cells.prompt[c]],
    draw: cells.draw[c],
    metric: data.metrics[rows.metric[i]],
    rows: rows.clean[i] ? "clean" : "all",
    first: rows.metric[i] === data.tests[cells.test[c]].metric,
    value: rows.value[i], low: rows.low[i], high: rows.high[i], n: rows.n[i],
    change: rows.change[i], change_low: rows.change_low[i], change_high: rows.change_high[i], p: rows.p[i],
  })).sort((x, y) => byPlace(x.place, y.place));
  const COLUMNS = [
    ["variant", "Variant"], ["test", "Test set"], ["shots", "Shots"], ["prompt", "Prompt"], ["draw", "Draw"],
    ["value", "Score"], ["change", "Change"], ["p", "p"], ["n", "n"], ["rows", "Rows"], ["role", "Role"], ["metric", "Metric"],
  ].filter(([name]) => (name !== "draw" || new Set(cells.draw).size > 1) && (name !== "rows" || rows.clean.includes(1)));
  const NUMERIC = new Set(["shots", "draw", "value", "change", "p", "n"]);

  // Which way a change goes, where its interval excludes zero and enough documents stand behind it.
  const way = (change, low, high, n) => (n < data.least || (low <= 0 && high >= 0) ? "" : change > 0 ? "up" : "down");
  const arrow = { up: "▲ ", down: "▼ ", "": "" };

  function resultsTable() {
    const all = records();
    const state = { sort: null, down: false, shown: ROWS, words: [], variant: "", test: "", role: "", metric: "first" };
    const status = $("#results-status");
    const more = $("#results-more");

    const head = COLUMNS.map(([name, title]) => {
      const button = h("button", { type: "button", class: "sort", on: { click: () => sortBy(name) } }, title);
      return h("th", { scope: "col", class: NUMERIC.has(name) ? "num" : null, "data-name": name }, button);
    });
    fill($("thead", table), h("tr", {}, head));

    function sortBy(name) {
      // Numbers first from the top, words from A; a second time the other way.
      state.down = state.sort === name ? !state.down : NUMERIC.has(name) && name !== "shots";
      state.sort = name;
      for (const th of head) {
        const mine = th.dataset.name === name;
        if (mine) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        else th.removeAttribute("aria-sort");
      }
      draw();
    }

    const matches = (row) =>
      (!state.variant || row.variant === state.variant) &&
      (!state.test || row.test === state.test) &&
      (!state.role || row.role === state.role) &&
      (state.metric === "first" ? row.first : !state.metric || row.metric === state.metric) &&
      state.words.every((word) => `${row.variant} ${row.test} ${row.role} ${row.prompt} ${row.metric} ${row.rows}`.toLowerCase().includes(word));

    function compare(a, b) {
      const [x, y] = [a[state.sort], b[state.sort]];
      if (x == null || y == null) return (x == null) - (y == null); // nothing comes last either way
      const order = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
      return state.down ? -order : order;
    }

    function draw() {
      const found = all.filter(matches);
      if (state.sort) found.sort(compare);
      fill($("tbody", table), found.slice(0, state.shown).map((row) => h("tr", {}, COLUMNS.map(([name]) => cell(row, name)))));
      status.textContent = `${some(found.length, "row")} of ${all.length.toLocaleString("en")}`;
      more.hidden = found.length <= state.shown;
      more.textContent = `Show ${some(Math.min(ROWS * 5, found.length - state.shown), "more row")}`;
    }

    function cell(row, name) {
      if (name === "variant") return h("th", { scope: "row", dir: "auto" }, row.variant);
      if (name === "value") {
        return h("td", { class: "num" }, points(row.value), " ", h("span", { class: "ci" }, between(row.low, row.high, points)));
      }
      if (name === "change") {
        if (row.change == null) return h("td", { class: "num" }, "");
        const to = way(row.change, row.change_low, row.change_high, row.n);
        const text = h("span", { class: to }, `${arrow[to]}${signed(row.change)}`);
        return h("td", { class: "num" }, text, " ", h("span", { class: "ci" }, between(row.change_low, row.change_high, signed)));
      }
      if (name === "p") return h("td", { class: "num" }, row.p == null ? "" : row.p < 1 ? "<0.001" : (row.p / 1000).toFixed(3));
      return h("td", { class: NUMERIC.has(name) ? "num" : null, dir: "auto" }, String(row[name] ?? ""));
    }

    const choose = (id, name, values) => {
      const select = $(id);
      select.append(...[...new Set(values)].filter(Boolean).map((value) => h("option", { value }, value)));
      select.addEventListener("change", () => { state[name] = select.value; state.shown = ROWS; draw(); });
    };
    choose("#f-variant", "variant", data.variants.map((v) => v.name));
    choose("#f-test", "test", data.tests.map((t) => t.title));
    choose("#f-role", "role", data.roles);
    choose("#f-metric", "metric", data.metrics);
    $("#f-words").addEventListener("input", (event) => {
      state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      state.shown = ROWS;
      draw();
    });
    more.addEventListener("click", () => { state.shown += ROWS * 5; draw(); });
    draw();
  }

  // --- a cell of the matrix ---------------------------------------------------------------------

  const dialog = $("#cell");

  function openCell(v, t) {
    const [variant, test] = [data.variants[v], data.tests[t]];
    const here = cells.variant.map((_, c) => c).filter((c) => cells.variant[c] === v && cells.test[c] === t);
    const prompts = [...new Set(here.map((c) => cells.prompt[c]))];
    const asked = [...new Set(here.map((c) => `${cells.shots[c]} ${cells.draw[c]}`))];
    const draws = new Set(here.map((c) => cells.draw[c])).size > 1;
    const score = new Map();
    rows.cell.forEach((c, i) => { if (rows.metric[i] === test.metric && !rows.clean[i]) score.set(c, i); });

    const one = (prompt, key) => {
      const c = here.find((c) => cells.prompt[c] === prompt && `${cells.shots[c]} ${cells.draw[c]}` === key);
      const i = score.get(c);
      if (i == null) return h("td", { class: "num quiet" }, c == null ? "" : "missing");
      const to = way(rows.change[i], rows.change_low[i], rows.change_high[i], rows.n[i]);
      return h("td", { class: "num" },
        h("b", {}, points(rows.value[i])), " ", h("span", { class: "ci" }, between(rows.low[i], rows.high[i], points)),
        rows.change[i] == null ? null : h("span", { class: `delta ${to}` }, `${arrow[to]}${signed(rows.change[i])} `,
          h("span", { class: "ci" }, between(rows.change_low[i], rows.change_high[i], signed))));
    };
    const scores = h("table", {},
      h("caption", {}, data.metrics[test.metric], v === data.base ? "" : " and its change from the base"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Shots"), prompts.map((p) => h("th", { scope: "col", class: "num" }, data.prompts[p])))),
      h("tbody", {}, asked.map((key) => {
        const [shots, draw] = key.split(" ");
        return h("tr", {}, h("th", { scope: "row" }, draws ? `${shots}, draw ${draw}` : shots), prompts.map((p) => one(p, key)));
      })));

    const ran = here.filter((c) => cells.seconds[c] != null);
    const sum = (list) => list.reduce((total, x) => total + x, 0);
    const facts = [
      ["Variant", variant.recipe || "the model as it is"],
      ["Role", data.roles[cells.role[here[0]]] || "–"],
      ["Rows", `${some(Math.max(0, ...here.map((c) => rows.n[score.get(c)] ?? 0)), "document")} asked in each of ${some(ran.length, "setting")}`],
      ["Computed", ran.length ? `${sum(ran.map((c) => cells.seconds[c])).toFixed(1)} s, ${some(sum(ran.map((c) => cells.tokens[c])), "token")}, ${[...new Set(ran.map((c) => data.machines[cells.machine[c]]))].join("; ")}` : "nothing yet"],
      ["Cells", h("details", {}, h("summary", {}, some(here.length, "key")), h("code", {}, here.map((c) => cells.key[c]).join(" ")))],
    ];
    fill(dialog,
      h("div", { class: "bar" }, h("h2", { id: "cell-h" }, h("bdi", {}, variant.name), " on ", h("bdi", {}, test.title)),
        h("button", { type: "button", class: "close", "aria-label": "Close", on: { click: () => dialog.close() } }, "×")),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Scores of this cell" }, scores),
      h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { dir: "auto" }, value)))),
      examples && v !== data.base ? h("p", {}, h("button", { type: "button", class: "primary", on: { click: () => { dialog.close(); examples.show(v, t); } } },
        "Show answers that changed")) : null);
    dialog.setAttribute("aria-labelledby", "cell-h");
    dialog.showModal();
  }

  // --- examples ---------------------------------------------------------------------------------

  // Packs by number: those in the page are parsed when first asked for, the others arrive as scripts that call this.
  const waiting = new Map();
  const packs = new Map();
  window.spillover = (pack) => {
    const number = +document.currentScript.dataset.number;
    packs.set(number, pack);
    waiting.get(number)?.(pack);
  };
  function load(number) {
    const inline = document.getElementById(`pack-${number}`);
    if (!packs.has(number) && inline) packs.set(number, JSON.parse(inline.textContent));
    if (packs.has(number)) return Promise.resolve(packs.get(number));
    return new Promise((resolve, reject) => {
      waiting.set(number, resolve);
      const file = data.examples[number].file;
      const failed = () => reject(new Error(`${file} is not beside this page; copy the folder along with it`));
      document.head.append(h("script", { src: file, "data-number": number, on: { error: failed } }));
    });
  }

  const PAGE = 20;
  const MOVED = 20; // points of ROUGE-L from which an answer of free text counts as changed
  const nats = (x) => (x / 1000).toFixed(2).replace("-", "−");

  function exampleViewer() {
    const names = data.variants.map((v) => v.name);
    const [test, condition, a, b, which, words] = ["test", "condition", "a", "b", "which", "words"].map((id) => $(`#x-${id}`));
    const [status, list, more] = [$("#x-status"), $("#x-list"), $("#x-more")];
    let shown = PAGE;

    test.append(...data.tests.map((t, i) => h("option", { value: i }, t.title)).filter((_, i) => data.examples.some((x) => x.test === i)));
    for (const select of [a, b]) select.append(...names.map((name, i) => h("option", { value: i }, name)));

    // Scores by variant and condition, so that the choice of a condition says what changed there.
    const scores = new Map();
    rows.cell.forEach((c, i) => {
      if (rows.metric[i] === data.tests[cells.test[c]].metric && !rows.clean[i]) scores.set(`${cells.variant[c]} ${spot(cells, c)}`, rows.value[i]);
    });
    function spot(of, i) {
      return `${of.test[i]} ${of.prompt[i]} ${of.shots[i]} ${of.draw[i]}`;
    }
    function change(x) {
      const key = `${x.test} ${x.prompt} ${x.shots} ${x.draw}`;
      const [to, from] = [scores.get(`${b.value} ${key}`), scores.get(`${a.value} ${key}`)];
      return to == null || from == null ? null : to - from;
    }

    // The conditions of a test set; where the one chosen before is not among them, that with the largest change.
    function conditions(afresh) {
      const before = afresh ? null : condition.value;
      const found = data.examples.map((x, number) => ({ x, number, change: change(x) })).filter(({ x }) => x.test === +test.value);
      fill(condition, found.map(({ x, number, change }) => h("option", { value: number },
        `${data.prompts[x.prompt]}, ${some(x.shots, "shot")}${x.draw ? `, draw ${x.draw}` : ""}${change == null ? "" : ` (${signed(change)})`}`)));
      const most = found.reduce((best, one) => (Math.abs(one.change ?? 0) > Math.abs(best.change ?? 0) ? one : best), found[0]);
      const kept = found.some(({ number }) => String(number) === before);
      if (most) condition.value = kept ? before : most.number;
    }

    async function draw() {
      const asked = condition.value;
      status.textContent = "Loading…";
      let pack;
      try {
        pack = await load(+asked);
      } catch (error) {
        status.textContent = error.message;
        fill(list);
        more.hidden = true;
        return;
      }
      if (condition.value !== asked) return; // another was asked for meanwhile
      const [ours, theirs] = [pack.answers[b.value], pack.answers[a.value]];
      if (!ours || !theirs) {
        status.textContent = `${names[ours ? a.value : b.value]} has not answered this yet.`;
        fill(list);
        more.hidden = true;
        return;
      }
      // What every text begins with (the template's first words) says nothing in a list of them.
      pack.common ??= pack.texts.reduce((length, text) => {
        while (!text.startsWith(pack.texts[0].slice(0, length))) length -= 1;
        return length;
      }, pack.texts.length > 1 ? pack.texts[0].length : 0);
      const limit = pack.labels ? 100 : MOVED;
      const every = pack.ids.map((id, i) => ({ id, i, moved: ours.score[i] == null || theirs.score[i] == null ? null : ours.score[i] - theirs.score[i] }))
        .filter((row) => row.moved != null);
      const lost = every.filter((row) => row.moved <= -limit).length;
      const gained = every.filter((row) => row.moved >= limit).length;
      const sought = words.value.toLowerCase();
      const said = (answers, i) => (typeof answers.said[i] === "number" ? pack.labels[answers.said[i]] : answers.said[i]);
      const keep = {
        changed: (row) => Math.abs(row.moved) >= limit, lost: (row) => row.moved <= -limit, gained: (row) => row.moved >= limit,
        other: (row) => said(ours, row.i) !== said(theirs, row.i), all: () => true,
      }[which.value];
      const found = every.filter(keep).filter((row) => !sought ||
        [pack.texts[row.i], pack.targets[row.i], said(ours, row.i), said(theirs, row.i), ours.free?.[row.i], theirs.free?.[row.i], `#${row.id}`]
          .some((text) => (text ?? "").toLowerCase().includes(sought)));
      found.sort((x, y) => Math.abs(y.moved) - Math.abs(x.moved) || x.i - y.i);
      const measure = pack.labels ? "right or wrong" : `by ${MOVED} points of ${data.metrics[data.tests[test.value].metric]} or more`;
      status.textContent = `${lost} lost and ${gained} gained ${measure} from ${names[a.value]} to ${names[b.value]}, of ${some(every.length, "row")}; ${found.length} found.`;
      fill(list, found.slice(0, shown).map((row) => item(pack, row, theirs, ours, said)));
      more.hidden = found.length <= shown;
    }

    function item(pack, row, theirs, ours, said) {
      const { i } = row;
      const way = row.moved > 0 ? "gained" : row.moved < 0 ? "lost" : "same";
      const answer = (name, answers) => [h("dt", {}, h("bdi", {}, name)), h("dd", { dir: "auto" }, h("q", {}, said(answers, i)),
        pack.labels ? null : h("span", { class: "quiet" }, ` ${answers.score[i]}`),
        answers.free?.[i] != null ? h("span", { class: "quiet" }, " left to itself: ", h("q", {}, answers.free[i])) : null,
        answers.cut?.[i] ? h("span", { class: "quiet" }, " (cut at the token limit)") : null)];
      const summary = h("summary", {}, h("span", { class: `flip ${way}` }, { gained: "▲ gained", lost: "▼ lost", same: "· same" }[way]),
        h("span", { class: "quiet" }, ` #${row.id} `), h("span", { class: "from-to", dir: "auto" }, pack.labels ? `${said(theirs, i)} → ${said(ours, i)}` : `${theirs.score[i]} → ${ours.score[i]}`),
        h("span", { class: "gist", dir: "auto" }, pack.texts[i].slice(pack.common).replace(/\s+/g, " ").slice(0, 160)));
      const details = h("details", { class: "example" }, summary,
        h("dl", { class: "answers" }, [h("dt", {}, "reference"), h("dd", { dir: "auto" }, h("q", {}, pack.targets[i]))],
          answer(names[a.value], theirs), answer(names[b.value], ours)));
      // The prompt may be long: it is written when the row is opened.
      details.addEventListener("toggle", () => {
        if (!details.open || details.querySelector("pre")) return;
        if (pack.labels) details.append(probabilities(pack, i, theirs, ours));
        if (pack.before) {
          details.append(h("details", {}, h("summary", {}, "Demonstrations, before the row"), h("pre", { dir: "auto", tabindex: "0" }, pack.before)));
        }
        details.append(h("p", { class: "label" }, pack.exact ? "Prompt, to the last character before the answer" : "Fields of the row; this run kept no prompts (run it again to add them)"),
          h("pre", { dir: "auto", tabindex: "0" }, pack.texts[i]));
      });
      return details;
    }

    function probabilities(pack, i, theirs, ours) {
      const sides = [[names[a.value], theirs], [names[b.value], ours]];
      const withFirst = sides.some(([, answers]) => answers.first);
      return h("table", { class: "probabilities" },
        h("caption", {}, "Log-probability of each label, in nats", withFirst ? "; in brackets, of its first token" : ""),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Label"), sides.map(([name]) => h("th", { scope: "col", class: "num", dir: "auto" }, name)))),
        h("tbody", {}, pack.labels.map((label, k) => h("tr", {}, h("th", { scope: "row", dir: "auto" }, label, pack.targets[i] === label ? " (reference)" : ""),
          sides.map(([, answers]) => h("td", { class: "num" + (answers.said[i] === k ? " said" : "") }, nats(answers.logprobs[i][k]),
            withFirst ? ` (${nats((answers.first ?? answers.logprobs)[i][k])})` : ""))))));
    }

    const again = () => { shown = PAGE; draw(); };
    test.addEventListener("change", () => { conditions(true); again(); });
    for (const control of [a, b]) control.addEventListener("change", () => { conditions(); again(); });
    for (const control of [condition, which]) control.addEventListener("change", again);
    words.addEventListener("input", again);
    more.addEventListener("click", () => { shown += PAGE; draw(); });

    const start = data.start;
    test.value = start.test;
    a.value = data.base ?? 0;
    b.value = start.variant;
    conditions(true);
    return {
      draw,
      show(v, t) {
        test.value = t;
        b.value = v;
        which.value = "changed";
        words.value = "";
        conditions(true);
        again();
        $("#examples").scrollIntoView();
        $("#examples-h").focus({ preventScroll: true });
      },
    };
  }

  // --- figures: what a mark says ----------------------------------------------------------------

  // A mark shows its description under a pointer, and when it has the focus: arrow keys go from mark to mark.
  function tips() {
    const tip = h("div", { id: "tip", "aria-hidden": "true", hidden: true });
    document.body.append(tip);
    const show = (event) => {
      const mark = event.target.closest?.(".drawing [aria-label]");
      tip.hidden = !mark;
      if (!mark) return;
      tip.textContent = mark.getAttribute("aria-label");
      const box = mark.getBoundingClientRect();
      const above = box.top - tip.offsetHeight - 8;
      tip.style.left = `${Math.max(8, Math.min(box.left + (box.width - tip.offsetWidth) / 2, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${above < 4 ? box.bottom + 8 : above}px`;
    };
    for (const event of ["pointerover", "focusin"]) document.addEventListener(event, show);
    document.addEventListener("scroll", () => show({ target: document.activeElement }), { passive: true, capture: true });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
    for (const drawing of $$(".drawing")) {
      const marks = $$("[aria-label]", drawing);
      for (const mark of marks) mark.setAttribute("tabindex", "-1");
      drawing.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        marks.at((marks.indexOf(document.activeElement) + step) % marks.length).focus();
      });
    }
  }

  // --- begin ------------------------------------------------------------------------------------

  const examples = data.examples.length ? exampleViewer() : null;
  if (table) resultsTable();
  for (const element of $$("[data-script]")) element.hidden = false;
  $$("button[data-v]").forEach((button) => button.addEventListener("click", () => openCell(+button.dataset.v, +button.dataset.t)));
  dialog?.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  tips();
  if (examples) {
    // Not before it is near: the first pack may be a file.
    new IntersectionObserver((seen, observer) => {
      if (seen.some((entry) => entry.isIntersecting)) { observer.disconnect(); examples.draw(); }
    }, { rootMargin: "600px" }).observe($("#examples"));
  }
})();
