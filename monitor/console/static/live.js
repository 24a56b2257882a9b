// The cameras as they are now, by server-sent events. `live` is only true while something was heard lately:
// an open connection that says nothing is not life.

import { address, now } from "./api.js";

const SILENCE_MS = 6000;
const AGAIN_MS = 2000;
const SCORES = 90;

export class Live extends EventTarget {
  cameras = new Map();
  site = "";
  live = false;
  sinceS = Date.now() / 1000;
  #source = null;
  #heard = 0;
  #last = null;
  #watch = null;
  #again = null;

  start() {
    this.#open();
    this.#watch ??= setInterval(() => this.#check(), 1000);
  }

  stop() {
    clearInterval(this.#watch);
    clearTimeout(this.#again);
    this.#watch = this.#again = null;
    this.#source?.close();
    this.#source = null;
    this.cameras.clear();
    this.#last = null;
    this.#set(false);
  }

  #open() {
    this.#again = null;
    this.#source?.close();
    const source = new EventSource(address("live") + (this.#last ? `?last=${encodeURIComponent(this.#last)}` : ""));
    this.#source = source;
    this.#heard = Date.now();
    const on = (name, take) => source.addEventListener(name, (event) => {
      if (source !== this.#source) return;
      this.#heard = Date.now();
      if (event.lastEventId) this.#last = event.lastEventId;
      take(JSON.parse(event.data));
      this.#set(true);
    });
    on("wall", (data) => this.#whole(data));
    on("change", (data) => this.#change(data));
    on("beat", () => {});
    source.onerror = () => {
      if (source !== this.#source) return;
      this.#set(false);
      if (source.readyState === EventSource.CLOSED) this.#later();
    };
  }

  #later() {
    this.#source?.close();
    this.#again ??= setTimeout(() => {
      this.dispatchEvent(new Event("retry"));
      this.#open();
    }, AGAIN_MS);
  }

  #check() {
    if (Date.now() - this.#heard > SILENCE_MS && !this.#again) {
      this.#set(false);
      this.#later();
    }
  }

  #set(live) {
    if (live === this.live) return;
    this.live = live;
    this.sinceS = now();
    this.dispatchEvent(new Event("state"));
  }

  #whole(data) {
    this.site = data.site;
    this.cameras = new Map(Object.entries(data.cameras));
    this.dispatchEvent(new Event("whole"));
  }

  #change(data) {
    for (const [name, delta] of Object.entries(data.cameras)) {
      const { scores, ...facts } = delta;
      const camera = this.cameras.get(name) ?? { scores: [] };
      Object.assign(camera, facts);
      if (scores) camera.scores = [...camera.scores, ...scores].slice(-SCORES);
      this.cameras.set(name, camera);
    }
    for (const name of data.removed) this.cameras.delete(name);
    this.dispatchEvent(new CustomEvent("change", { detail: data }));
  }

  /** Cameras that should be watched and are not: their silence means nothing. */
  unwatched() {
    return [...this.cameras.values()].filter((camera) => ["lost", "connecting", "learning"].includes(camera.status));
  }

  /** Cameras of which not all is seen or scored: frozen, dark, covered, too slow. */
  impaired() {
    return [...this.cameras.values()].filter((camera) => camera.status === "degraded");
  }

  /** Raised, and put on the shelf. */
  shelved() {
    return [...this.cameras.values()].filter((camera) => camera.raised && camera.shelf);
  }

  /** Raised cameras that somebody should look at: not shelved. The newest first, acknowledged ones last. */
  raised() {
    return [...this.cameras.values()]
      .filter((camera) => camera.raised && !camera.shelf)
      .sort((a, b) => a.acknowledged - b.acknowledged || (b.onset_s ?? 0) - (a.onset_s ?? 0));
  }
}

export const live = new Live();
