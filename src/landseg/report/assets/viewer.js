// The tile viewer: layers on canvases, panned and zoomed by Leaflet. Loaded after page.js.
"use strict";

// ---- Tiles: embedded data to pixels

const DATA = JSON.parse(find("#data").textContent);
const hidden = new Set();  // ids of hidden classes
const known = new Set(DATA.classes.map((each) => each.id));
const named = new Map(DATA.classes.map((each) => [each.id, each.name]));

/** Return "#rrggbb" as a pixel: four bytes as one number, in native byte order. */
function pixel(hex) {
  const channels = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return new Uint32Array(new Uint8Array([...channels, 255]).buffer)[0];
}

/** Decode deflated ids. They are not an image, so no browser can alter them. */
async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const cache = new Map();
/** Return the cached value of a key, computed on first use. */
function cached(key, compute) {
  if (!cache.has(key)) cache.set(key, compute());
  return cache.get(key);
}

async function loadImage(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/** Return the image, target and prediction of a tile of a run. */
async function pixels(run, entry) {
  const tile = DATA.tiles[entry.key];
  const [image, target, prediction] = await Promise.all([
    cached(`image ${entry.key}`, () => loadImage(tile.image)),
    cached(`target ${entry.key}`, () => inflate(tile.target)),
    cached(`prediction ${run} ${entry.key}`, () => inflate(entry.prediction)),
  ]);
  return { width: tile.width, height: tile.height, image, target, prediction };
}

// ---- Layers: canvases of the size of the tile

const CLEAR = 0;
const WRONG = pixel(DATA.wrong);
const STRIPES = [pixel("#e8e8e8"), pixel("#c4c4c4")];

/** Return the colours of a class map by position; unknown ids are ignored pixels, hatched. */
function classMap(ids, width) {
  const colours = DATA.classes.map((each) => [each.id, hidden.has(each.id) ? CLEAR : pixel(each.color)]);
  const palette = Object.assign(new Array(256), Object.fromEntries(colours));
  return (n) => palette[ids[n]] ?? stripe(n, width);
}

function errorMap({ target, prediction, width }) {
  return (n) => (!known.has(target[n]) ? stripe(n, width) : target[n] === prediction[n] ? CLEAR : WRONG);
}

function stripe(n, width) {
  const diagonal = Math.floor(n / width) + (n % width);
  return STRIPES[Math.floor(diagonal / Math.max(1, Math.floor(width / 50))) % 2];
}

/** Return a canvas with pixels in colours by position. */
function colouredCanvas(width, height, colour) {
  const canvas = make("canvas", { width, height });
  const image = new ImageData(width, height);
  const filled = new Uint32Array(image.data.buffer);
  for (let n = 0; n < filled.length; n++) filled[n] = colour(n);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Draw a layer: the image, and over it the map if the layer is one. */
function draw(context, kind, tile, opacity) {
  const { width, height } = tile;
  context.globalAlpha = 1;
  context.drawImage(tile.image, 0, 0, width, height);
  if (kind === "image") return;
  if (kind === "error") fade(context, width, height);
  context.globalAlpha = kind === "error" ? 1 : opacity;
  const colour = kind === "error" ? errorMap(tile) : classMap(tile[kind], width);
  context.drawImage(colouredCanvas(width, height, colour), 0, 0);
}

/** Fade the image to pale grey, so that only errors have colour. */
function fade(context, width, height) {
  for (const [mode, style] of [["saturation", "#888"], ["source-over", "rgb(250 250 250 / 60%)"]]) {
    context.globalCompositeOperation = mode;
    context.fillStyle = style;
    context.fillRect(0, 0, width, height);
  }
  context.globalCompositeOperation = "source-over";
}

// ---- The viewer

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
const formatScores = (entry) => `accuracy ${percent(entry.accuracy)}, mIoU\u00a0${entry.miou === null ? "–" : entry.miou.toFixed(2)}`;

/** A canvas as an overlay of the map. */
const CanvasOverlay = L.ImageOverlay.extend({
  _initImage() {
    this._image = this._url;
    this._image.classList.add("leaflet-image-layer", "leaflet-zoom-animated");
  },
});

class Viewer {
  constructor() {
    this.run = 0;
    this.shown = null;
    this.position = 50;  // of the slider, % from the left
    this.opacity = 1;
    this.sides = { left: { layer: "image" }, right: { layer: "prediction 0" } };
    this.makeMap();
    this.makeSlider();
    this.makeLegend();
    this.makeControls();
    this.makeGallery();
  }

  makeMap() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.map = L.map("map", {
      crs: L.CRS.Simple, attributionControl: false, minZoom: -4, maxZoom: 6, zoomSnap: 0.25, zoomDelta: 0.5,
      zoomAnimation: !still, inertia: !still, scrollWheelZoom: false, maxBoundsViscosity: 0.8,
    });
    // The wheel scrolls the page unless the map has the focus.
    this.map.on("focus", () => this.map.scrollWheelZoom.enable());
    this.map.on("blur", () => this.map.scrollWheelZoom.disable());
    this.map.on("move zoom resize", () => this.clip());
    this.map.on("mousemove", (event) => this.describePixel(event.latlng));
    this.map.on("mouseout", () => (find("#pointed").textContent = "\u00a0"));
    for (const side of ["left", "right"]) this.sides[side].pane = this.map.createPane(side);
  }

  makeSlider() {
    const slider = find("#slider");
    const keys = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
    slider.addEventListener("keydown", (event) => {
      const step = keys[event.key] * (event.shiftKey ? 10 : 1);
      if (Number.isNaN(step)) return;
      event.preventDefault();
      this.moveSlider(this.position + step);
    });
    slider.addEventListener("pointerdown", (event) => {
      slider.setPointerCapture(event.pointerId);
      slider.focus({ preventScroll: true });
      event.preventDefault();
    });
    slider.addEventListener("pointermove", (event) => {
      if (!slider.hasPointerCapture(event.pointerId)) return;
      const box = slider.parentNode.getBoundingClientRect();
      this.moveSlider((100 * (event.clientX - box.left)) / box.width);
    });
  }

  makeLegend() {
    for (const each of DATA.classes) {
      const box = make("input", { type: "checkbox", "data-class": each.id });
      box.checked = true;
      const swatch = make("i", { class: "swatch" });
      swatch.style.background = each.color;
      find("#legend").append(make("label", {}, box, swatch, each.name));
      box.addEventListener("change", () => {
        box.checked ? hidden.delete(each.id) : hidden.add(each.id);
        this.paint();
      });
    }
  }

  makeControls() {
    for (const side of ["left", "right"]) {
      find(`#${side}`).addEventListener("change", (event) => {
        this.sides[side].layer = event.target.value;
        this.paint();
      });
    }
    find("#opacity").addEventListener("input", (event) => {
      this.opacity = event.target.value / 100;
      this.paint();
    });
    find("#run")?.addEventListener("change", (event) => {
      this.run = Number(event.target.value);
      this.makeGallery();
    });
    find("#previous").addEventListener("click", () => this.step(-1));
    find("#next").addEventListener("click", () => this.step(1));
    find("#fit").addEventListener("click", () => this.fitTile());
  }

  /** List the tiles of the run by the reason for choosing them, each with its views. Show the tile that was
   * shown before, or the middle one of those with most classes. */
  makeGallery() {
    const groups = {
      worst: ["Worst", (why) => why.includes("worst")],
      best: ["Best", (why) => why.includes("best")],
      rich: ["Most classes", (why) => why.includes("rich")],
      spread: ["In between", (why) => why.join() === "spread"],
    };
    const tiles = DATA.runs[this.run].tiles;
    this.buttons = [];
    find("#gallery").replaceChildren();
    for (const [heading, belongs] of Object.values(groups)) {
      const members = tiles.filter((entry) => belongs(entry.why));
      if (!members.length) continue;
      const list = make("ul", { class: "tiles" }, ...members.map((entry) => make("li", {}, this.thumbnail(entry))));
      find("#gallery").append(make("h3", {}, heading), list);
    }
    const rich = this.buttons.filter(({ entry }) => entry.why.includes("rich"));
    const same = this.buttons.find(({ entry }) => entry.key === this.shown?.entry.key);
    const first = same ?? rich[rich.length >> 1] ?? this.buttons[0];
    if (first) this.show(this.run, first.entry, first.button);
  }

  thumbnail(entry) {
    const { width, height } = DATA.tiles[entry.key];
    const [wide, high] = [160, Math.round((160 * height) / width)];
    const views = ["image", "target", "prediction", "error"].map((kind) => [kind, make("canvas", { width: wide, height: high })]);
    const shown = views.map(([kind, canvas]) => make("span", {}, kind, canvas));
    const button = make("button", { type: "button", "aria-pressed": "false", "data-tile": entry.tile },
      make("b", {}, entry.tile), make("span", {}, formatScores(entry)), make("span", { class: "views", "aria-hidden": "true" }, ...shown));
    const run = this.run;
    button.addEventListener("click", () => {
      this.show(run, entry, button);
      find(".stage").scrollIntoView({ block: "nearest" });
    });
    this.buttons.push({ entry, button });
    pixels(run, entry).then((tile) => {
      for (const [kind, canvas] of views) {
        const layer = make("canvas", { width, height });
        draw(layer.getContext("2d"), kind, tile, 1);
        canvas.getContext("2d").drawImage(layer, 0, 0, wide, high);
      }
    });
    return button;
  }

  step(by) {
    const at = this.buttons.findIndex(({ button }) => button === this.shown.button);
    const { entry, button } = this.buttons[(at + by + this.buttons.length) % this.buttons.length];
    this.show(this.run, entry, button);
  }

  /** Show a tile, with the predictions of all runs that have it. */
  async show(run, entry, button) {
    this.shown = { run, entry, button };
    for (const each of this.buttons) each.button.setAttribute("aria-pressed", each.button === button);
    const entries = DATA.runs.map(({ tiles }) => tiles.find((other) => other.key === entry.key));
    const loaded = await Promise.all(entries.map((other, n) => other && pixels(n, other)));
    if (this.shown.button !== button) return;  // another tile was chosen while loading
    this.loaded = loaded;
    this.listLayers(run);
    const { width, height } = loaded[run];
    if (this.width !== width || this.height !== height) this.placeCanvases(width, height);
    this.paint();
  }

  /** List the layers of the tile. A selected layer of a run without this tile is replaced by that of the listed run. */
  listLayers(run) {
    const several = DATA.runs.length > 1;
    const layers = [["image", "image"], ["target", "target"]];
    this.loaded.forEach((tile, n) => {
      if (!tile) return;
      const of = several ? ` – ${DATA.runs[n].label}` : "";
      layers.push([`prediction ${n}`, `prediction${of}`], [`error ${n}`, `error${of}`]);
    });
    this.names = new Map(layers);
    for (const side of ["left", "right"]) {
      const state = this.sides[side];
      if (!this.names.has(state.layer)) state.layer = `${state.layer.split(" ")[0]} ${run}`;
      find(`#${side}`).replaceChildren(...layers.map(([value, name]) => make("option", { value }, name)));
      find(`#${side}`).value = state.layer;
    }
  }

  /** Put canvases of a new size on the map. */
  placeCanvases(width, height) {
    [this.width, this.height] = [width, height];
    this.bounds = L.latLngBounds([0, 0], [height, width]);
    for (const side of ["left", "right"]) {
      const state = this.sides[side];
      state.overlay?.remove();
      state.canvas = make("canvas", { width, height });
      this.map.setMaxBounds(this.bounds.pad(0.5));
    }
    this.fitTile();
    for (const side of ["left", "right"]) {
      const state = this.sides[side];
      state.overlay = new CanvasOverlay(state.canvas, this.bounds, { pane: side }).addTo(this.map);
    }
  }

  fitTile() {
    this.map.fitBounds(this.bounds, { animate: false });
    this.clip();
  }

  paint() {
    if (!this.loaded) return;
    for (const side of ["left", "right"]) {
      const { layer, canvas } = this.sides[side];
      const [kind, run] = layer.split(" ");
      const tile = run === undefined ? this.loaded.find(Boolean) : this.loaded[run];
      draw(canvas.getContext("2d"), kind, tile, this.opacity);
      find(`#${side}-name`).textContent = this.names.get(layer);
    }
    this.announce();
  }

  moveSlider(percentage) {
    this.position = Math.round(10 * Math.min(100, Math.max(0, percentage))) / 10;
    this.clip();
    this.announce();
  }

  /** Clip both panes at the slider. Their origin moves with the map; the slider does not. */
  clip() {
    const size = this.map.getSize();
    const near = this.map.containerPointToLayerPoint([0, 0]);
    const far = this.map.containerPointToLayerPoint(size);
    const at = near.x + (size.x * this.position) / 100;
    const box = (from, to) => `polygon(${[[from, near.y], [to, near.y], [to, far.y], [from, far.y]].map(([x, y]) => `${x}px ${y}px`)})`;
    this.sides.left.pane.style.clipPath = box(near.x, at);
    this.sides.right.pane.style.clipPath = box(at, far.x);
    const slider = find("#slider");
    slider.style.left = `${this.position}%`;
    slider.setAttribute("aria-valuenow", Math.round(this.position));
    slider.setAttribute("aria-valuetext", `${Math.round(this.position)} % from the left`);
  }

  /** Update the status line after a pause. */
  announce() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const { entry, run } = this.shown;
      const label = DATA.runs.length > 1 ? `${DATA.runs[run].label} ` : "";
      const name = (side) => this.names.get(this.sides[side].layer);
      find("#status").textContent =
        `Tile ${entry.tile}: ${label}${formatScores(entry)}; left ${name("left")}, right ${name("right")}, slider at ${Math.round(this.position)} %.`;
    }, 150);
  }

  /** Show the classes under the pointer. */
  describePixel({ lat, lng }) {
    const [row, column] = [Math.floor(this.height - lat), Math.floor(lng)];
    const inside = row >= 0 && column >= 0 && row < this.height && column < this.width;
    const at = row * this.width + column;
    const name = (ids) => named.get(ids[at]) ?? "ignored";
    const predicted = (tile, n) => tile && `${DATA.runs.length > 1 ? DATA.runs[n].label : "prediction"}: ${name(tile.prediction)}`;
    find("#pointed").textContent = inside && this.loaded
      ? [`row ${row}, column ${column}`, `target: ${name(this.loaded.find(Boolean).target)}`, ...this.loaded.map(predicted).filter(Boolean)].join(" · ")
      : "\u00a0";
  }
}

if (DATA.runs.some(({ tiles }) => tiles.length)) {
  find("#viewer").hidden = false;
  new Viewer();
}
