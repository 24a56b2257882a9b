// Every camera as a tile. One element a camera for the life of the page: what changes is changed in place.

import * as api from "./api.js";
import { spark } from "./chart.js";
import { fill, h, say } from "./dom.js";
import { live } from "./live.js";
import { givesPictures, isScored, isTrouble, showAge } from "./status.js";
import { atShort, lasting, named, score, sentence, t } from "./text.js";

const ORDER = { lost: 0, degraded: 1, connecting: 2, learning: 3, ok: 4, disarmed: 5, disabled: 6 };
const SIGNS = { ok: "●", learning: "◔", connecting: "◌", degraded: "◐", lost: "✕", disarmed: "◇", disabled: "–" };
const AT_ONCE = 16, RAISED_MS = 2000, OTHERS_MS = 5000, MANY_MS = 12000;
const inOrder = new Intl.Collator(undefined, { numeric: true }).compare;
const LARGEST_REM = 34, SMALLEST_REM = 14.5, TEXT_REM = 7.5;

// Lines are drawn together, after all words are written: reading a size in between would lay the page out 200 times.
const dirty = new Set();
function later(tile) {
  if (!dirty.size) requestAnimationFrame(() => { for (const one of dirty) one.draw(); dirty.clear(); });
  dirty.add(tile);
}

class Tile {
  constructor(name, seen) {
    this.name = name;
    this.visible = false;
    this.shotMs = 0;
    this.url = null;
    this.capturedS = 0;
    this.picture = h("img", { alt: "", hidden: true });
    this.none = h("span", { class: "no-picture" });
    this.flag = h("span", { class: "flag", hidden: true });
    this.age = h("span", { class: "age", hidden: true });
    this.sign = h("span", { class: "sign", "aria-hidden": "true" });
    this.status = h("span", { class: "status" });
    this.number = h("span", { class: "score" });
    this.reason = h("span", { class: "reason" });
    this.line = h("canvas", { class: "spark", "aria-hidden": "true" });
    this.element = h("a", { class: "tile", "data-camera": name },
      h("span", { class: "shot" }, this.picture, this.none, this.age, this.flag),
      h("span", { class: "row" }, h("strong", { class: "name", title: name }, name), this.number),
      h("span", { class: "row" }, this.sign, this.status), this.line, this.reason);
    this.element.tile = this;
    seen.observe(this.element);
  }

  show(camera) {
    this.camera = camera;
    const up = camera.raised && !camera.shelf;
    const kind = up ? "raised" : camera.raised ? "shelved raised-shelved" : camera.would_raise ? "would" : camera.shelf ? "shelved" : "";
    const name = `tile is-${camera.status} ${kind}${up && !camera.acknowledged ? " new" : ""}`;
    if (this.element.className !== name) this.element.className = name;
    const link = camera.raised && camera.alert_id ? `#/alert/${encodeURIComponent(camera.alert_id)}` : `#/camera/${encodeURIComponent(this.name)}`;
    if (this.element.getAttribute("href") !== link) this.element.setAttribute("href", link);
    const last = camera.scores.at(-1);
    say(this.sign, SIGNS[camera.status] ?? "?");
    say(this.status, named("status", camera.status) + (camera.mode === "observe" ? ` · ${t("observe")}` : ""));
    say(this.number, last === undefined ? "" : `${isScored(camera.status) ? score(last) : "–"} / ${score(camera.raise_at)}`);
    const flag = up ? `▲ ${t("raised")} ${lasting(api.now() - (camera.onset_s ?? api.now()))}${camera.acknowledged ? ` · ${t("seen")}` : ""}`
      : camera.shelf ? `⏸ ${t("shelved_until", { at: atShort(camera.shelf.until_s) })}` : camera.would_raise ? `△ ${t("would_raise")}` : "";
    say(this.flag, flag);
    this.flag.hidden = !flag;
    if (!givesPictures(camera.status)) {
      this.picture.hidden = true;
      say(this.none, t("no_picture"));
    }
    say(this.reason, camera.shelf ? camera.shelf.reason : camera.status === "ok" ? "" : sentence(camera.reason));
    showAge(this.age, this.picture, this.capturedS);
    if (this.visible) later(this);
  }

  draw() {
    if (this.camera) spark(this.line, this.camera.scores, this.camera.raise_at ?? 1);
  }

  /** A picture, whose url is the tile's from now on, or undefined. */
  came(found) {
    if (this.gone) return found && URL.revokeObjectURL(found.url);
    const old = this.url;
    this.url = found?.url ?? null;
    this.capturedS = found?.capturedS ?? 0;
    if (found) this.picture.src = found.url;
    this.picture.hidden = !found;
    say(this.none, found ? "" : t("no_picture"));
    if (old) URL.revokeObjectURL(old);
  }

  forget() {
    this.gone = true;
    if (this.url) URL.revokeObjectURL(this.url);
  }
}

export function wall(view, state, _, asked) {
  if (asked) Object.assign(state, { search: "", group: "", only: "" }, Object.fromEntries(new URLSearchParams(asked)));
  const tiles = new Map();
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      entry.target.tile.visible = entry.isIntersecting;
      if (entry.isIntersecting) entry.target.tile.draw();
    }
    shoot();
  }, { rootMargin: "100px" });
  const search = h("input", { type: "search", id: "search", placeholder: `${t("search")}  ( / )`, "aria-label": t("search"), value: state.search ?? "",
    oninput: () => { state.search = search.value; sought(); } });
  const group = h("select", { "aria-label": t("group_by"), onchange: () => { state.group = group.value; sought(); } });
  const only = h("select", { "aria-label": t("show"), onchange: () => { state.only = only.value; sought(); } },
    ["all", "trouble"].map((value) => h("option", { value, selected: value === (state.only || "all") }, t(`show_${value}`))));
  const counts = h("p", { class: "counts", "aria-live": "polite" });
  const place = h("div", { class: "groups" });
  fill(view, h("h1", { class: "sr" }, t("wall")), h("div", { class: "bar" }, search, group, only, counts), place);
  let laid = "";

  /** What is sought stands in the address: it can be kept and sent. */
  function sought() {
    address();
    arrange();
  }

  function address() {
    const said = new URLSearchParams(["search", "group", "only"].filter((key) => state[key]).map((key) => [key, state[key]]));
    history.replaceState(null, "", said.size ? `#/wall/${said}` : "#/wall");
  }

  function groups() {
    const keys = [...new Set([...live.cameras.values()].flatMap((camera) => Object.keys(camera.labels ?? {})))].sort();
    const wanted = ["", ...keys].join("\n");
    if (group.dataset.keys === wanted) return;
    group.dataset.keys = wanted;
    fill(group, ["", ...keys].map((key) =>
      h("option", { value: key, selected: key === (state.group ?? "") }, key ? t("by", { key }) : t("ungrouped"))));
  }

  function matches(camera) {
    const words = (state.search ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const text = [camera.name, named("status", camera.status), ...Object.values(camera.labels ?? {})].join(" ").toLowerCase();
    const trouble = camera.raised || isTrouble(camera.status);
    return words.every((word) => text.includes(word)) && (state.only !== "trouble" || trouble);
  }

  /** Which tile stands where; nothing is moved where nothing changed. */
  function arrange() {
    groups();
    for (const [name, camera] of live.cameras) {
      if (!tiles.has(name)) tiles.set(name, new Tile(name, seen));
      tiles.get(name).show(camera);
    }
    for (const [name, tile] of tiles) {
      if (live.cameras.has(name)) continue;
      tile.forget();
      tiles.delete(name);
    }
    const raised = live.raised();
    const up = new Set(raised.map((camera) => camera.name));
    const rest = [...live.cameras.values()].filter((camera) => !up.has(camera.name) && matches(camera))
      .sort((a, b) => (ORDER[a.status] ?? 9) - (ORDER[b.status] ?? 9) || inOrder(a.name, b.name));
    // Raised ones are shown whatever is searched for: nobody must overlook one by an old search.
    const sections = raised.length ? [["!", t("raised_now", { n: raised.length }), raised]] : [];
    if (state.group) {
      const found = new Map();
      for (const camera of rest) {
        const value = camera.labels?.[state.group] ?? t("no_label");
        found.set(value, [...(found.get(value) ?? []), camera]);
      }
      for (const value of [...found.keys()].sort(inOrder))
        sections.push([value, `${state.group}: ${value}`, found.get(value)]);
    } else if (rest.length) sections.push(["", raised.length ? t("others") : "", rest]);
    const wanted = JSON.stringify(sections.map(([key, title, cameras]) => [key, title, cameras.map((camera) => camera.name)]));
    if (wanted !== laid) {
      laid = wanted;
      const focus = document.activeElement?.closest?.(".tile");
      fit();  // before the tiles stand: after it would lay all of them out twice
      fill(place, sections.map(([key, title, cameras]) =>
        h("section", { class: key === "!" ? "group raised-group" : "group" }, title ? h("h2", {}, title) : null,
          h("div", { class: "tiles" }, cameras.map((camera) => tiles.get(camera.name).element)))));
      if (!sections.length) fill(place, h("p", { class: "empty" }, live.cameras.size ? t("nothing_found") : t("no_cameras")));
      if (focus?.isConnected) focus.focus({ preventScroll: true });
    }
    tally();
  }

  /** As large as they can be while all are seen at once; scrolling begins where they would become too small. */
  function fit() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = place.clientWidth / rem, height = (innerHeight - place.getBoundingClientRect().top - scrollY) / rem;
    let size = LARGEST_REM;
    for (; size > SMALLEST_REM; size--) {
      const columns = Math.max(Math.floor(width / (size + 0.7)), 1);
      const rows = Math.ceil(live.cameras.size / columns) + (live.raised().length ? 1 : 0);
      if (rows * (size * 9 / 16 + TEXT_REM) <= height) break;
    }
    document.documentElement.style.setProperty("--tile", `${Math.max(size, SMALLEST_REM)}rem`);
  }

  function tally() {
    const found = {};
    for (const camera of live.cameras.values()) found[camera.status] = (found[camera.status] ?? 0) + 1;
    say(counts, t("cameras_n", { n: live.cameras.size }) + " · " +
      Object.entries(found).sort(([a], [b]) => (ORDER[a] ?? 9) - (ORDER[b] ?? 9)).map(([status, n]) => `${n} ${named("status", status)}`).join(" · "));
  }

  // Pictures of what is on the screen, raised cameras' oftener; one request for all that are due and for those that soon
  // would be, since requests are what they cost the monitor.
  let loading = false;
  async function shoot() {
    if (loading || document.hidden || !live.live || !state.pictures) return;
    const visible = [...tiles.values()].filter((tile) => tile.visible && givesPictures(tile.camera.status));
    const every = visible.length > 60 ? MANY_MS : OTHERS_MS;
    const age = (tile) => (Date.now() - tile.shotMs) / (tile.camera.raised ? RAISED_MS : every);
    const due = visible.filter((tile) => age(tile) > 0.8).sort((a, b) => age(b) - age(a)).slice(0, AT_ONCE);
    if (!due.length || age(due[0]) < 1) return;
    loading = true;
    for (const tile of due) tile.shotMs = Date.now();
    const found = await api.pictures(due.map((tile) => tile.name));
    for (const tile of due) tile.came(found.get(tile.name));
    loading = false;
    shoot();
  }

  const onWhole = () => arrange();
  /** Most changes are new scores: only what stands elsewhere afterwards needs the whole order. */
  function onChange({ detail }) {
    const moved = detail.removed.length > 0 || Object.entries(detail.cameras).some(([name, delta]) =>
      !tiles.has(name) || Object.keys(delta).some((key) => key !== "scores"));
    if (moved) return arrange();
    for (const name of Object.keys(detail.cameras)) tiles.get(name).show(live.cameras.get(name));
  }
  live.addEventListener("whole", onWhole);
  live.addEventListener("change", onChange);
  const timer = setInterval(shoot, 500);
  addEventListener("resize", fit);
  address();
  arrange();
  return {
    keys: {
      "/": () => { search.focus(); search.select(); },
      x: () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()),
      ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => row(1), ArrowUp: () => row(-1),
    },
    redraw: () => tiles.forEach((tile) => tile.visible && tile.draw()),
    leave() {
      live.removeEventListener("whole", onWhole);
      live.removeEventListener("change", onChange);
      clearInterval(timer);
      removeEventListener("resize", fit);
      seen.disconnect();
      tiles.forEach((tile) => tile.forget());
    },
  };

  function all() {
    return [...place.querySelectorAll(".tile")];
  }

  function step(by) {
    const list = all(), at = list.indexOf(document.activeElement);
    list[at < 0 ? 0 : Math.min(Math.max(at + by, 0), list.length - 1)]?.focus();
  }

  /** The tile that lies nearest above or below. */
  function row(by) {
    const list = all(), here = document.activeElement;
    if (!list.includes(here)) return step(1);
    const from = here.getBoundingClientRect();
    const beyond = list.map((tile) => [tile, tile.getBoundingClientRect()]).filter(([, box]) => (box.top - from.top) * by > 4);
    beyond.sort(([, a], [, b]) => Math.abs(a.top - from.top) - Math.abs(b.top - from.top) || Math.abs(a.left - from.left) - Math.abs(b.left - from.left));
    beyond[0]?.[0].focus();
  }
}
