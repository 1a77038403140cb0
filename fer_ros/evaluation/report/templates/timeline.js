"use strict";
// Timelines: zoom with the wheel, move by dragging, read values under the pointer.
(() => {
  const ROW = 110, BAR = 12, GAP = 26, LEFT = 8, MAX_GAP_S = 1.0, MIN_SPAN_S = 0.2;
  const data = JSON.parse(document.getElementById("timeline-data").textContent);
  const emotions = Object.keys(data.colors), colors = Object.values(data.colors);
  const views = new Map(); // by group: [start, end] in seconds
  const timelines = [];

  const name = (index) => (index < 0 ? "-" : emotions[index]);
  const nearest = (times, time) => {
    let low = 0, high = times.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (times[middle] <= time) low = middle; else high = middle;
    }
    return Math.abs(times[low] - time) <= Math.abs(times[high] - time) ? low : high;
  };

  class Timeline {
    constructor(section, content) {
      this.section = section;
      this.content = content;
      this.canvas = section.querySelector("canvas");
      this.output = section.querySelector("output");
      this.pointer = null; // seconds
      const canvas = this.canvas;
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.zoom(this.timeAt(event.offsetX), event.deltaY > 0 ? 1.25 : 0.8);
      }, { passive: false });
      canvas.addEventListener("pointermove", (event) => {
        if (event.buttons & 1) this.pan(-event.movementX);
        this.show(this.timeAt(event.offsetX));
      });
      canvas.addEventListener("pointerleave", () => this.show(null));
      canvas.addEventListener("dblclick", () => setView(this.group, 0, this.content.duration_s));
    }
    get group() { return this.section.dataset.group; }
    get view() { return views.get(this.group); }
    get width() { return this.canvas.clientWidth || 1000; }
    timeAt(x) {
      const [start, end] = this.view;
      return start + (x - LEFT) / (this.width - 2 * LEFT) * (end - start);
    }
    xAt(time) {
      const [start, end] = this.view;
      return LEFT + (time - start) / (end - start) * (this.width - 2 * LEFT);
    }
    zoom(time, factor) {
      const [start, end] = this.view;
      setView(this.group, time - (time - start) * factor, time + (end - time) * factor);
    }
    pan(pixels) {
      const [start, end] = this.view, shift = pixels / this.width * (end - start);
      setView(this.group, start + shift, end + shift);
    }
    show(time) {
      this.pointer = time;
      this.output.textContent = time === null ? "" : this.describe(time);
      this.draw();
    }
    describe(time) {
      const lines = [`${time.toFixed(2)} s`];
      for (const face of this.content.faces) {
        const row = nearest(face.times, time);
        if (row < 0 || Math.abs(face.times[row] - time) > MAX_GAP_S) continue;
        const ranked = face.probabilities[row]
          .map((value, index) => [value, emotions[index]])
          .filter(([value]) => value !== null).sort((a, b) => b[0] - a[0]).slice(0, 4)
          .map(([value, emotion]) => `${emotion} ${(100 * value).toFixed(0)}%`);
        lines.push(`${face.id}: predicted ${name(face.emotions[row])}, ` +
          `label ${name(face.labels[row])}; ${ranked.join(", ")}`);
      }
      return lines.join("\n");
    }
    draw() {
      const ratio = window.devicePixelRatio || 1, faces = this.content.faces;
      const height = Math.max(1, faces.length) * (ROW + 2 * BAR + GAP) + 20;
      this.canvas.style.height = `${height}px`;
      this.canvas.width = this.width * ratio;
      this.canvas.height = height * ratio;
      const context = this.canvas.getContext("2d");
      context.scale(ratio, ratio);
      context.font = "12px system-ui, sans-serif";
      faces.forEach((face, index) => this.drawFace(context, face, index * (ROW + 2 * BAR + GAP)));
      if (!faces.length) context.fillText("no face", LEFT, 30);
      this.drawAxis(context, height);
      this.section.dataset.view = this.view.map((value) => value.toFixed(3)).join(",");
    }
    drawFace(context, face, top) {
      context.fillStyle = "#202124";
      context.fillText(face.id, LEFT, top + 14);
      const base = top + 20 + ROW;
      for (let row = 0; row < face.times.length; row++) {
        const left = this.xAt(face.times[row]);
        const next = row + 1 < face.times.length ? face.times[row + 1] : face.times[row] + 0.05;
        const step = Math.min(next - face.times[row], MAX_GAP_S);
        const right = this.xAt(face.times[row] + (step < MAX_GAP_S ? step : 0.05));
        if (right < 0 || left > this.width) continue;
        const span = Math.max(1, right - left + 0.5);
        let bottom = base;
        if (face.emotions[row] >= 0) {
          face.probabilities[row].forEach((value, index) => {
            context.fillStyle = colors[index];
            context.fillRect(left, bottom - ROW * value, span, ROW * value);
            bottom -= ROW * value;
          });
        }
        [face.emotions[row], face.labels[row]].forEach((emotion, bar) => {
          if (emotion < 0) return;
          context.fillStyle = colors[emotion];
          context.fillRect(left, base + 2 + bar * (BAR + 1), span, BAR);
        });
      }
    }
    drawAxis(context, height) {
      const [start, end] = this.view;
      const step = 10 ** Math.floor(Math.log10(Math.max(end - start, MIN_SPAN_S) / 2));
      context.fillStyle = "#5f6368";
      for (let tick = Math.ceil(start / step) * step; tick <= end; tick += step) {
        context.fillText(`${+tick.toFixed(3)}`, this.xAt(tick), height - 4);
      }
      if (this.pointer !== null) context.fillRect(this.xAt(this.pointer), 0, 1, height - 16);
    }
  }

  function setView(group, start, end) {
    const members = timelines.filter((timeline) => timeline.group === group);
    const duration = Math.max(...members.map((timeline) => timeline.content.duration_s), MIN_SPAN_S);
    const span = Math.min(Math.max(end - start, MIN_SPAN_S), duration);
    const first = Math.min(Math.max(start, 0), duration - span);
    views.set(group, [first, first + span]);
    members.forEach((timeline) => timeline.draw());
  }

  function seek(id, time) {
    const timeline = timelines.find((item) => item.section.id === id);
    if (!timeline) return;
    setView(timeline.group, time - 2, time + 2);
    timeline.show(time);
    timeline.section.scrollIntoView({ block: "center" });
  }

  for (const section of document.querySelectorAll("section.timeline")) {
    timelines.push(new Timeline(section, data.timelines[section.id]));
  }
  for (const timeline of timelines) setView(timeline.group, 0, timeline.content.duration_s);
  for (const button of document.querySelectorAll("button.seek")) {
    button.addEventListener("click", () => seek(button.dataset.timeline, +button.dataset.time));
  }
  window.addEventListener("resize", () => timelines.forEach((timeline) => timeline.draw()));
})();
