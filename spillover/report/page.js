// The page's script: a table of results to sort and filter, answers to search, and descriptions of marks in figures.
// It asks no network. Text from data is set as text, never as markup. Without this script the page still shows the
// verdict, the matrix, the figures and all other tables.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  // An element with attributes and children, which are elements or text. Attributes that are null are left out.
  function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value != null) element.setAttribute(name, value);
    return fill(element, ...children);
  }
  function fill(element, ...children) {
    element.replaceChildren(...children.flat(2).filter((child) => child != null).map((child) => (child instanceof Node ? child : visible(child))));
    return element;
  }
  // Control characters as escapes, as errors.py writes them.
  function visible(words) {
    return String(words).replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, (char) => {
      const code = char.charCodeAt(0).toString(16);
      return code.length > 2 ? `\\u${code}` : `\\x${code.padStart(2, "0")}`;
    });
  }
  const listen = (elements, event, action) => elements.forEach((element) => element.addEventListener(event, action));
  const options = (names) => names.map((name, value) => h("option", { value }, name));
  const some = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

  // Scores are tenths of a point.
  const points = (x) => (x == null ? "–" : (x / 10).toFixed(1).replace("-", "−"));
  const signed = (x) => (x > 0 ? "+" : "") + points(x);
  const interval = (low, high, write) => h("span", { class: "ci" }, ` [${write(low)}, ${write(high)}]`);

  const ROWS = 20;
  const COLUMNS = Object.entries({
    variant: "Variant", test: "Test set", shots: "Shots", prompt: "Prompt", draw: "Draw", value: "Score",
    change: "Change", p: "p", n: "n", rows: "Rows", role: "Role", metric: "Metric",
  });
  const TEXT = { variant: data.variants, test: data.tests, role: data.roles, prompt: data.prompts, metric: data.metrics, rows: ["all", "clean"] };
  const rows = data.rows.map((values) => Object.fromEntries(data.columns.map((name, i) => [name, values[i]])));
  const text = (row, name) => (name in TEXT ? TEXT[name][row[name]] : row[name]);
  const isFirst = (row) => row.metric === data.first[row.test];

  // An arrow where the interval excludes zero and enough documents were scored.
  function change(row) {
    if (row.change == null) return [];
    const way = row.n < data.least || (row.change_low <= 0 && row.change_high >= 0) ? "" : row.change > 0 ? "up" : "down";
    const arrow = { up: "▲ ", down: "▼ ", "": "" }[way];
    return [h("span", { class: way }, arrow + signed(row.change)), interval(row.change_low, row.change_high, signed)];
  }
  const CONTENT = {
    value: (row) => [points(row.value), interval(row.low, row.high, points)],
    change,
    p: (row) => [row.p == null ? "" : row.p < 1 ? "<0.001" : (row.p / 1000).toFixed(3)],
  };

  function resultsTable(showAnswers) {
    const [table, status, more, answers, words] = ["table", "status", "more", "answers", "words"].map((id) => $(`#results-${id}`));
    const filters = ["variant", "test", "role", "metric"].map((name) => [name, $(`#results-${name}`)]);
    const shown = COLUMNS.filter(([name]) => !["draw", "rows"].includes(name) || new Set(rows.map((row) => row[name])).size > 1);
    let [sort, down, limit] = [null, false, ROWS];

    for (const [name, select] of filters) select.append(...options(TEXT[name]).filter((option) => option.text));
    const ofRecipe = new Map(data.recipes.map((recipe, i) => [`r${i}`, recipe.variants]));
    filters[0][1].append(...data.recipes.map((recipe, i) => h("option", { value: `r${i}` }, `${recipe.name}, ${some(recipe.variants.length, "seed")}`)));
    const head = shown.map(([name, title]) => h("th", { scope: "col", class: name in TEXT ? null : "num", "data-name": name },
      h("button", { type: "button", class: "sort" }, title)));
    fill($("thead", table), h("tr", {}, head));

    function compare(one, other) {
      const [x, y] = [text(one, sort), text(other, sort)];
      if (x == null || y == null) return (x == null) - (y == null); // missing values come last both ways
      const order = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
      return down ? -order : order;
    }
    function matches(row, sought) {
      const line = Object.keys(TEXT).map((name) => text(row, name)).join(" ").toLowerCase();
      return sought.every((word) => line.includes(word)) && filters.every(([name, { value }]) =>
        value === "" || (value === "first" ? isFirst(row) : ofRecipe.get(value)?.includes(row[name]) ?? row[name] === Number(value)));
    }
    function draw() {
      const sought = words.value.toLowerCase().split(/\s+/);
      const found = rows.filter((row) => matches(row, sought));
      if (sort) found.sort(compare);
      fill($("tbody", table), found.slice(0, limit).map((row) => h("tr", {}, shown.map(([name], i) =>
        i === 0 ? h("th", { scope: "row", dir: "auto" }, text(row, name))
          : h("td", name in TEXT ? { dir: "auto" } : { class: "num" }, CONTENT[name]?.(row) ?? text(row, name))))));
      status.textContent = `${some(found.length, "row")} of ${rows.length.toLocaleString("en")}`;
      more.hidden = found.length <= limit;
      more.textContent = `Show ${some(Math.min(ROWS * 5, found.length - limit), "more row")}`;
      answers.hidden = !showAnswers || filters.slice(0, 2).some(([, select]) => select.value === "");
    }
    const again = () => { limit = ROWS; draw(); };

    head.forEach((th) => listen([th.firstChild], "click", () => {
      // Numbers begin with the largest, text and shots with the smallest. A second click turns the order.
      const { name } = th.dataset;
      down = sort === name ? !down : !(name in TEXT || name === "shots");
      sort = name;
      head.forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      draw();
    }));
    listen(filters.map(([, select]) => select), "change", again);
    listen([words], "input", again);
    listen([more], "click", () => { limit += ROWS * 5; draw(); });
    listen([answers], "click", () => { // of a recipe, its first seed
      const [variant, test] = filters.slice(0, 2).map(([, select]) => select.value);
      showAnswers(ofRecipe.get(variant)?.[0] ?? variant, test);
    });
    // A cell of the matrix is a link to its rows.
    listen($$("a[data-v]"), "click", ({ currentTarget: { dataset } }) => {
      for (const [name, select] of filters) select.value = { variant: dataset.v, test: dataset.t, metric: "first" }[name] ?? "";
      words.value = "";
      again();
    });
    draw();
  }

  // Packs by number. Those in the page are parsed when first needed; the others arrive as scripts that call this.
  const waiting = new Map();
  const packs = new Map();
  window.spillover = (pack) => waiting.get(Number(document.currentScript.dataset.number))(pack);
  function load(number) {
    const inline = document.getElementById(`pack-${number}`);
    if (!packs.has(number)) packs.set(number, inline ? JSON.parse(inline.textContent) : new Promise((resolve, reject) => {
      const { file } = data.examples[number];
      const script = h("script", { src: file, "data-number": number });
      waiting.set(number, resolve);
      listen([script], "error", () => reject(new Error(`${file} is not beside this page. Copy its folder along with the page.`)));
      document.head.append(script);
    }));
    return packs.get(number);
  }

  const PAGE = 20;
  const MOVED = 20; // points of ROUGE-L from which an answer of free text counts as changed
  const quiet = (...children) => h("span", { class: "quiet" }, ...children);

  function exampleViewer() {
    const [test, condition, a, b, which, words] = ["test", "condition", "a", "b", "which", "words"].map((id) => $(`#x-${id}`));
    const [status, list, more] = [$("#x-status"), $("#x-list"), $("#x-more")];
    let limit = PAGE;

    const asked = new Set(data.examples.map((x) => x.test));
    test.append(...options(data.tests).filter((_, i) => asked.has(i)));
    for (const select of [a, b]) select.append(...options(data.variants));

    const spot = (x, variant) => [variant, x.test, x.prompt, x.shots, x.draw].join(" ");
    const scores = new Map(rows.filter((row) => isFirst(row) && !row.rows).map((row) => [spot(row, row.variant), row.value]));
    function moved(x) {
      const [to, from] = [b, a].map((select) => scores.get(spot(x, select.value)));
      return to == null || from == null ? null : to - from;
    }

    // The conditions of a test set. One is kept if it was chosen before; else the largest change is chosen.
    function conditions(kept) {
      const found = data.examples.map((x, number) => ({ ...x, number, by: moved(x) })).filter((x) => x.test === Number(test.value));
      fill(condition, found.map((x) => h("option", { value: x.number }, `${data.prompts[x.prompt]}, ${some(x.shots, "shot")}`,
        x.draw ? `, draw ${x.draw}` : null, x.by == null ? null : ` (${signed(x.by)})`)));
      const most = found.reduce((best, x) => (Math.abs(x.by ?? 0) > Math.abs(best.by ?? 0) ? x : best), found[0]);
      condition.value = found.find((x) => String(x.number) === kept)?.number ?? most?.number;
    }

    const names = () => [a, b].map((select) => data.variants[select.value]);
    // What the answer to a row is chosen from; null for free text.
    const choices = (pack, i) => pack.labels ?? pack.options?.[i] ?? null;
    const said = (pack, answers, i) => (typeof answers.said[i] === "number" ? pack.labels[answers.said[i]] : answers.said[i]);

    function show(message, items = [], hasMore = false) {
      status.textContent = message;
      fill(list, items);
      more.hidden = !hasMore;
    }

    async function draw() {
      const wanted = condition.value;
      status.textContent = "Loading";
      let pack;
      try {
        pack = await load(Number(wanted));
      } catch (error) {
        show(error.message);
        return;
      }
      if (condition.value !== wanted) return; // another condition was chosen meanwhile
      const [theirs, ours] = [a, b].map((select) => pack.answers[select.value]);
      if (!ours || !theirs) {
        show(`${names()[theirs ? 1 : 0]} has no answers under this condition yet.`);
        return;
      }
      // The words that all prompts begin with are left out of the list.
      pack.common ??= pack.texts.reduce((length, prompt) => {
        while (!prompt.startsWith(pack.texts[0].slice(0, length))) length -= 1;
        return length;
      }, pack.texts.length > 1 ? pack.texts[0].length : 0);
      const least = choices(pack, 0) ? 100 : MOVED;
      const both = pack.ids.map((id, i) => ({ id, i, by: ours.score[i] - theirs.score[i] }))
        .filter(({ i }) => ours.score[i] != null && theirs.score[i] != null);
      const keep = {
        lost: ({ by }) => by <= -least,
        gained: ({ by }) => by >= least,
        changed: ({ by }) => Math.abs(by) >= least,
        other: ({ i }) => said(pack, ours, i) !== said(pack, theirs, i),
        all: () => true,
      };
      const sought = words.value.toLowerCase();
      const texts = ({ id, i }) => [pack.texts[i], pack.targets[i], ...(pack.others?.[i] ?? []), `#${id}`, ...[ours, theirs].flatMap((x) => [said(pack, x, i), x.free?.[i]])];
      const found = both.filter(keep[which.value]).filter((row) => texts(row).some((one) => (one ?? "").toLowerCase().includes(sought)));
      found.sort((x, y) => Math.abs(y.by) - Math.abs(x.by) || x.i - y.i);
      const measure = choices(pack, 0) ? "" : ` by ${MOVED} points of ${data.metrics[data.first[test.value]]} or more`;
      const [lost, gained] = [keep.lost, keep.gained].map((kind) => both.filter(kind).length);
      show(`From ${names().join(" to ")}: ${lost} lost and ${gained} gained${measure}, of ${some(both.length, "row")}. ${some(found.length, "row")} found.`,
        found.slice(0, limit).map((row) => item(pack, row, theirs, ours)), found.length > limit);
    }

    // The other right answers to a row, folded.
    function others(texts) {
      return texts.length === 0 ? null : h("details", {}, h("summary", {}, `1 of ${texts.length + 1}`),
        h("ul", {}, texts.map((text) => h("li", {}, h("q", {}, text)))));
    }

    function item(pack, { id, i, by }, theirs, ours) {
      const way = by > 0 ? "gained" : by < 0 ? "lost" : "same";
      const line = (name, words, ...more) => [h("dt", {}, h("bdi", {}, name)), h("dd", { dir: "auto" }, h("q", {}, words), ...more)];
      const answer = (name, answers) => line(name, said(pack, answers, i),
        choices(pack, i) ? null : quiet(` ${answers.score[i]}`),
        answers.free?.[i] == null ? null : quiet(" generated freely: ", h("q", {}, answers.free[i])),
        answers.ended ? quiet({ stop: " (cut by a stop)", limit: " (cut at the token limit)" }[answers.ended[i]] ?? "") : null);
      const fromTo = [theirs, ours].map((answers) => (choices(pack, i) ? said(pack, answers, i) : answers.score[i])).join(" → ");
      const details = h("details", { class: "example" },
        h("summary", {}, h("span", { class: `flip ${way}` }, { gained: "▲ gained", lost: "▼ lost", same: "· same" }[way]),
          quiet(` #${id} `), h("span", { class: "from-to", dir: "auto" }, fromTo),
          h("span", { class: "gist", dir: "auto" }, pack.texts[i].slice(pack.common).replace(/\s+/g, " ").slice(0, 160))),
        h("dl", { class: "answers" }, line("reference", pack.targets[i], others(pack.others?.[i] ?? [])), [theirs, ours].map((answers, k) => answer(names()[k], answers))));
      const prompt = (words) => h("pre", { dir: "auto", tabindex: "0" }, words);
      // The prompt may be long, so it is written when the row is first opened.
      details.addEventListener("toggle", () => details.append(...[
        choices(pack, i) ? probabilities(pack, i, [theirs, ours]) : "",
        pack.before ? h("details", {}, h("summary", {}, "Demonstrations before the row"), prompt(pack.before)) : "",
        h("p", { class: "label" }, pack.exact ? "Prompt, up to the answer" : "Fields of the row. This run kept no prompts; run it again to add them."),
        prompt(pack.texts[i])]), { once: true });
      return details;
    }

    function probabilities(pack, i, sides) {
      const nats = (x) => (x / 1000).toFixed(2).replace("-", "−");
      const withFirst = sides.some((answers) => answers.first);
      const cell = (answers, k) => h("td", { class: said(pack, answers, i) === choices(pack, i)[k] ? "num said" : "num" }, nats(answers.logprobs[i][k]),
        withFirst ? ` (${nats((answers.first ?? answers.logprobs)[i][k])})` : null);
      return h("table", { class: "probabilities" },
        h("caption", {}, `Log-probability of each ${pack.labels ? "label" : "option"}, in nats`, withFirst ? "; in brackets, of its first token" : null),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, pack.labels ? "Label" : "Option"), names().map((name) => h("th", { scope: "col", class: "num", dir: "auto" }, name)))),
        h("tbody", {}, choices(pack, i).map((label, k) => h("tr", {},
          h("th", { scope: "row", dir: "auto" }, label, pack.targets[i] === label ? " (reference)" : null),
          sides.map((answers) => cell(answers, k))))));
    }

    const again = () => { limit = PAGE; draw(); };
    listen([test], "change", () => { conditions(); again(); });
    listen([a, b], "change", () => { conditions(condition.value); again(); });
    listen([condition, which], "change", again);
    listen([words], "input", again);
    listen([more], "click", () => { limit += PAGE; draw(); });
    function choose(variant, of) {
      [test.value, b.value, which.value, words.value] = [of, variant, "changed", ""];
      conditions();
    }
    a.value = data.base ?? 0;
    choose(data.start.variant, data.start.test);
    // The first pack may be a file, so it is not loaded before the reader comes near.
    new IntersectionObserver((seen, observer) => {
      if (seen.some((entry) => entry.isIntersecting)) { observer.disconnect(); draw(); }
    }, { rootMargin: "600px" }).observe($("#examples"));
    return (variant, of) => { choose(variant, of); again(); };
  }

  // A mark shows its description under a pointer and when it has the focus. Arrow keys go from mark to mark.
  function tips() {
    const tip = h("div", { id: "tip", "aria-hidden": "true", hidden: "" });
    document.body.append(tip);
    function show({ target }) {
      const mark = target.closest?.(".drawing [aria-label]");
      tip.hidden = !mark;
      if (!mark) return;
      tip.textContent = mark.getAttribute("aria-label");
      const box = mark.getBoundingClientRect();
      const above = box.top - tip.offsetHeight - 8;
      tip.style.left = `${Math.max(8, Math.min(box.left + (box.width - tip.offsetWidth) / 2, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${above < 4 ? box.bottom + 8 : above}px`;
    }
    for (const event of ["pointerover", "focusin"]) document.addEventListener(event, show);
    document.addEventListener("scroll", () => show({ target: document.activeElement }), { passive: true, capture: true });
    listen([document], "keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
    for (const drawing of $$(".drawing")) {
      const marks = $$("[aria-label]", drawing);
      marks.forEach((mark) => mark.setAttribute("tabindex", "-1"));
      listen([drawing], "keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        marks.at((marks.indexOf(document.activeElement) + step) % marks.length).focus();
      });
    }
  }

  // The meaning of a term stands at the foot of the window, and with this script below its term where there is room.
  function meanings() {
    for (const meaning of $$(".meaning")) listen([meaning], "toggle", ({ newState }) => {
      if (newState !== "open" || innerWidth < 760) return;
      const term = meaning.previousElementSibling.getBoundingClientRect();
      const below = term.bottom + 6;
      meaning.classList.add("near");
      meaning.style.left = `${Math.max(8, Math.min(term.left, innerWidth - meaning.offsetWidth - 8))}px`;
      meaning.style.top = `${below + meaning.offsetHeight < innerHeight ? below : Math.max(4, term.top - meaning.offsetHeight - 6)}px`;
    });
  }

  // Copies a command. Where the browser does not allow that, it is selected, so that one key copies it.
  function copies() {
    for (const button of $$(".to-copy button")) listen([button], "click", async () => {
      const code = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      } catch {
        getSelection().selectAllChildren(code);
      }
    });
  }

  for (const element of $$("[data-script]")) element.hidden = false;
  resultsTable(data.examples.length ? exampleViewer() : null);
  tips();
  meanings();
  copies();
})();
