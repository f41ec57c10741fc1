"use strict";
// Draws the pictures of a run that is opened when they come into view, and keeps them at one moment and one stretch
// of time.
(() => {
  const panels = [...document.querySelectorAll(".panel")];
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const number = (value) => value.toLocaleString("en-US");
  const megabytes = (pages) => (pages / 256).toLocaleString("en-US", { maximumFractionDigits: pages < 25600 ? 1 : 0 }) + " MiB";

  function decode(packed) {  // a plotly typed array of bytes -> {data, rows, columns}
    const text = atob(packed.bdata), data = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) data[i] = text.charCodeAt(i);
    const [rows, columns] = String(packed.shape).split(",").map(Number);
    return { data, rows, columns };
  }

  function indexAt(ops, op) {  // the last sample at or before op
    let low = 0, high = ops.length - 1;
    while (low < high) { const mid = (low + high + 1) >> 1; if (ops[mid] <= op) low = mid; else high = mid - 1; }
    return low;
  }

  function interpolate(from, to, value) {
    const i = indexAt(from, value), j = Math.min(i + 1, from.length - 1);
    return from[j] > from[i] ? to[i] + (to[j] - to[i]) * (value - from[i]) / (from[j] - from[i]) : to[i];
  }

  class Panel {
    constructor(element, run) {
      this.element = element; this.run = run; this.plots = []; this.blocks = {}; this.pending = false; this.syncing = false;
      const timed = run.designs.every((d) => !d.series || d.series.s.length) && run.designs.find((d) => d.series);
      this.clock = timed ? timed.series : null;
      this.axis = timed ? "s" : "op"; this.op = 0; this.timer = null; this.range = null; this.shapes = [];
    }

    draw() {
      const packed = this.run.figures.blockmap;
      if (packed) for (const trace of packed.data) this.blocks[trace.meta.design] = decode(trace.z);
      const plots = [...this.element.querySelectorAll(".plot")];
      const coming = new IntersectionObserver((seen) => {
        for (const { target } of seen.filter((one) => one.isIntersecting)) { coming.unobserve(target); this.plot(target); }
      }, { rootMargin: "100px" });
      for (const node of plots) {
        node.style.minHeight = `${this.run.figures[node.dataset.figure].layout.height}px`;
        coming.observe(node);
      }
      addEventListener("beforeprint", () => { for (const node of plots) { coming.unobserve(node); this.plot(node); } });
      this.slider = this.element.querySelector(".scrub input");
      if (this.slider) {
        this.slider.addEventListener("input", () => { this.stop(); this.moveTo(this.run.operations * this.slider.value / 1000); });
        this.element.querySelector(".play").addEventListener("click", () => this.timer ? this.stop() : this.play());
        this.switch(".axis", "x", (x) => this.setAxis(x));
        if (!this.clock) this.element.querySelector(".axis").hidden = true;
      }
      this.switch(".scale", "y", (y) => {
        const node = this.element.querySelector('[data-figure="flushes"]');
        if (node.dataset.drawn) Plotly.relayout(node, { "yaxis.type": y, "yaxis.autorange": true });
        else this.run.figures.flushes.layout.yaxis.type = y;
      });
      this.moveTo(this.clock ? this.run.operations / 2 : 0);
    }

    plot(node) {  // as the others are: axis, stretch and moment
      if (node.dataset.drawn) return;
      node.dataset.drawn = "1";
      const { data, layout } = this.run.figures[node.dataset.figure];
      for (const trace of data) trace.x = this.xOf(trace);
      if (node.dataset.figure === "flushes") layout.xaxis.rangeslider = { visible: true, thickness: 0.09 };
      if (this.axis === "op") { layout.xaxis.title.text = "operations"; this.range ??= [0, this.end()]; }
      if (this.range) layout.xaxis.range = this.range.slice();
      layout.shapes = this.shapes;
      Plotly.newPlot(node, data, layout, config).then(() => this.adopt(node));
    }

    switch(selector, key, act) {
      const box = this.element.querySelector(selector);
      if (!box) return;
      box.addEventListener("click", (event) => {
        const value = event.target.dataset[key];
        if (!value) return;
        for (const button of box.children) button.setAttribute("aria-pressed", button === event.target);
        act(value);
      });
    }

    adopt(node) {  // link zoom and clicks of one picture to the others
      this.plots.push(node);
      node.on("plotly_relayout", (change) => {
        const keys = Object.keys(change);
        if (this.syncing || !keys.some((key) => key.startsWith("xaxis."))) return;
        const auto = change["xaxis.autorange"];
        const update = auto ? { "xaxis.range": [0, this.end()] } : { "xaxis.range": node.layout.xaxis.range.slice() };
        this.syncing = true;
        this.range = update["xaxis.range"];
        Promise.all(this.plots.filter((p) => auto || p !== node).map((p) => Plotly.relayout(p, update))).then(() => { this.syncing = false; });
      });
      node.on("plotly_click", (event) => {
        const x = event.points[0].x;
        this.stop();
        this.moveTo(this.axis === "s" ? interpolate(this.clock.s, this.clock.op, x) : x);
      });
    }

    xOf(trace) {
      const samples = this.run.designs.find((d) => d.design === trace.meta.design)[trace.meta.of];
      return this.axis === "s" ? samples.s : samples.op;
    }

    setAxis(axis) {
      this.axis = axis;
      this.range = [0, this.end()];
      this.syncing = true;
      Promise.all(this.plots.map((node) => {
        const layout = { "xaxis.title.text": axis === "s" ? "trace time, s" : "operations", "xaxis.range": [0, this.end()] };
        return Plotly.update(node, { x: node.data.map((trace) => this.xOf(trace)) }, layout);
      })).then(() => { this.syncing = false; this.moveTo(this.op); });
    }

    end() { return this.axis === "s" ? this.clock.s[this.clock.s.length - 1] : this.run.operations; }

    play() {
      const button = this.element.querySelector(".play");
      button.textContent = "\u275a\u275a";
      if (this.op >= this.run.operations * 0.995) this.op = 0;
      const step = this.run.operations / 200;
      this.timer = setInterval(() => { this.moveTo(Math.min(this.run.operations, this.op + step)); if (this.op >= this.run.operations) this.stop(); }, 90);
    }

    stop() {
      clearInterval(this.timer); this.timer = null;
      this.element.querySelector(".play").textContent = "\u25b6";
    }

    moveTo(op) {
      if (!this.slider) return;
      this.op = op; this.slider.value = 1000 * op / this.run.operations;
      if (this.pending) return;
      this.pending = true;
      requestAnimationFrame(() => { this.pending = false; this.show(); });
    }

    show() {
      const seconds = this.clock ? interpolate(this.clock.op, this.clock.s, this.op) : null;
      this.element.querySelector("output").textContent =
        `operation ${number(Math.round(this.op))} of ${number(this.run.operations)}` + (this.clock ? `, ${seconds.toFixed(2)} s` : "");
      const x = this.axis === "s" ? seconds : this.op;
      const shapes = this.shapes = [{ type: "line", xref: "x", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: "#a33b00", width: 1.5 } }];
      for (const node of this.plots) Plotly.relayout(node, { shapes });
      for (const card of this.element.querySelectorAll(".now")) this.showCard(card, this.run.designs[card.dataset.design]);
    }

    showCard(card, design) {
      const at = indexAt(design.series.op, this.op);
      card.querySelector("dl").replaceChildren(...design.now.flatMap(([label, unit, values]) => {
        const dt = document.createElement("dt"), dd = document.createElement("dd");
        dt.textContent = label; dd.textContent = unit === "pages" ? megabytes(values[at]) : number(values[at]);
        return [dt, dd];
      }));
      const canvas = card.querySelector("canvas"), map = this.blocks[design.design];
      if (!canvas || !map) return;
      const column = indexAt(design.blockmap.op, this.op), wide = Math.min(32, map.rows), cell = 8;
      canvas.width = wide * cell; canvas.height = Math.ceil(map.rows / wide) * cell;
      const ink = canvas.getContext("2d");
      for (let block = 0; block < map.rows; block++) {
        ink.fillStyle = this.run.legends.blockmap[map.data[block * map.columns + column]][1];
        ink.fillRect((block % wide) * cell, Math.floor(block / wide) * cell, cell - 1, cell - 1);
      }
    }
  }

  async function unpack(id) {  // what the page carries as gzip in base64
    const packed = await fetch(`data:;base64,${document.getElementById(id).textContent}`);
    return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).text();
  }

  function coloured(text) {  // the figures' ink, as the page's scheme has it
    const style = getComputedStyle(document.documentElement);
    const now = (name) => style.getPropertyValue(name).trim();
    const inks = { "#1f2933": now("--ink"), "#5f6c7b": now("--muted"), "#e4e7eb": now("--line") };
    return text.replace(/#(1f2933|5f6c7b|e4e7eb)/g, (colour) => inks[colour]);
  }

  let loading = null;
  function library() {
    loading ??= unpack("plotly").then((text) => {
      const script = document.createElement("script");
      script.textContent = text;
      document.body.append(script);
    });
    return loading;
  }

  panels.forEach((panel, index) => panel.addEventListener("toggle", async () => {
    if (!panel.open || panel.dataset.drawn) return;
    panel.dataset.drawn = "1";
    const [data] = await Promise.all([unpack(`data-${index}`), library()]);
    new Panel(panel, JSON.parse(coloured(data))).draw();
  }));
  for (const details of document.querySelectorAll("details")) if (`#${details.id}` === location.hash) {
    for (let at = details; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  }
})();
