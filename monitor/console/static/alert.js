// One alert: the clip at once, the curve under it, and a verdict by one key.

import * as api from "./api.js";
import { Curve, bars } from "./chart.js";
import { fill, h, say, toast } from "./dom.js";
import { next } from "./alerts.js";
import { live } from "./live.js";
import { shelve } from "./shelf.js";
import { atFull, atShort, lasting, named, score, sentence, t } from "./text.js";

const CATEGORIES = ["person_down", "fight", "intrusion", "fire_smoke", "machine", "spill", "vehicle",
  "animal", "light_weather", "normal_work", "camera_fault", "other"];
const KEYS = { real: "r", false: "f", unsure: "u" };
const AROUND_S = 20;

export function alert(view, state, id) {
  let found = null, curve = null, video = null, gone = false, frame = 0, tries = 0, shown = "";
  const category = h("select", { id: "category" }, h("option", { value: "" }, t("no_category")),
    CATEGORIES.map((value) => h("option", { value }, named("category", value))));
  const note = h("input", { id: "note", maxlength: 500, autocomplete: "off" });
  const verdicts = h("div", { class: "verdicts", role: "group", "aria-label": t("verdict") });
  const said = h("p", { class: "said", "aria-live": "polite" });
  const facts = h("dl", { class: "facts" });
  const earlier = h("div"), alike = h("div");
  const looked = h("div", { class: "attention low", role: "img", "aria-label": t("attention_then") });
  const media = h("div", { class: "media" }), proof = h("div", { class: "evidence" });
  const chart = h("canvas", { class: "curve", role: "img", "aria-label": t("score_curve") });
  const title = h("h1");
  const seen = h("button", { type: "button", onclick: acknowledge }, t("acknowledge"), h("kbd", {}, "a"));
  const tools = h("div", { class: "tools" });
  fill(view, h("p", { class: "loading" }, t("loading")));

  async function load() {
    try {
      found = await api.get(api.alert(id));
    } catch (error) {
      if (gone) return;
      // The wall may hear of it a second before the history has written it.
      if (error.status === 404 && tries++ < 5) return void setTimeout(load, 800);
      fill(view, h("p", { class: "empty" }, error.message));
      return;
    }
    if (!gone) show();
  }

  function show() {
    if (!title.isConnected) {
      fill(view, h("div", { class: "alert-page" },
        h("div", { class: "alert-main" }, title, media, h("div", { class: "curve-box" }, chart), legend(), h("h2", {}, t("attention_then")), looked, proof),
        h("div", { class: "alert-side" }, verdicts, h("div", { class: "fields" },
          h("label", { for: "category" }, t("category")), category, h("label", { for: "note" }, t("note")), note), said,
          tools, alike, facts, earlier)));
      fill(verdicts, Object.entries(KEYS).map(([value, key]) => h("button", { type: "button", class: `verdict v-${value}`, "data-verdict": value,
        "aria-pressed": "false", onclick: () => judge(value) }, h("span", { "aria-hidden": "true" }, { real: "▲", false: "✓", unsure: "?" }[value]),
        ` ${named("verdict", value)} `, h("kbd", {}, key))));
      fill(tools, seen, h("button", { type: "button", onclick: put }, t("shelve"), h("kbd", {}, "s")),
        h("button", { type: "button", onclick: () => next(id) }, t("next_unjudged"), h("kbd", {}, "n")));
      if (found.verdict) { category.value = found.verdict.category ?? ""; note.value = found.verdict.note; }
      past();
    }
    const up = found.ended_s === null;
    fill(title, h("span", { class: up ? "badge raised" : "badge" }, up ? `▲ ${t("raised")}` : t("ended")), " ",
      h("a", { href: `#/camera/${encodeURIComponent(found.camera)}` }, found.camera));
    for (const button of verdicts.children) button.setAttribute("aria-pressed", String(found.verdict?.verdict === button.dataset.verdict));
    for (const button of [...verdicts.children, seen]) button.disabled = state.role !== "operator";
    seen.hidden = found.acknowledged !== null;
    fill(said, found.verdicts.map((one) => h("span", {}, t("judged", { verdict: named("verdict", one.verdict), who: one.who, at: atShort(one.at_s) }),
      one.category ? ` · ${named("category", one.category)}` : "", one.note ? ` · ${one.note}` : "")));
    const rows = [["onset", atFull(found.onset_s)], ["raised_at", `${atFull(found.raised_s)}`],
      ["ended_at", up ? "–" : `${atFull(found.ended_s)} (${lasting(found.ended_s - found.raised_s)})`],
      ["peak", `${score(found.peak_score)} (${t("threshold")} ${score(found.threshold)})`],
      ["long_term", score(found.long_term)], ["short_term", score(found.short_term)], ["bridged", found.bridged],
      ["why", sentence(named("reason", found.reason))],
      ["acknowledged", found.acknowledged ? `${found.acknowledged.who}, ${atShort(found.acknowledged.at_s)}` : "–"],
      ...Object.entries(found.labels).map(([key, value]) => [null, value, key])];
    fill(facts, rows.map(([key, value, name]) => [h("dt", {}, name ?? t(key)), h("dd", {}, String(value))]));
    bars(looked, found.attention.map((one) => one.weight), (i) => found.attention[i].at_s);
    looked.hidden = looked.previousSibling.hidden = !found.attention.length;
    showEvidence();
    scores();
  }

  function legend() {
    return h("p", { class: "legend" }, h("span", { class: "k-line" }, t("score")), h("span", { class: "k-long" }, t("long_term")),
      h("span", { class: "k-short" }, t("short_term")), h("span", { class: "k-raise" }, t("threshold")), h("span", { class: "k-band" }, t("clip")), h("span", { class: "k-look" }, t("attention_line")));
  }

  function showEvidence() {
    const kind = JSON.stringify([found.evidence.state, found.evidence.clip, found.evidence.snapshot, found.evidence.note]);
    if (kind === shown) return;
    shown = kind;
    const parts = [], more = [];
    video = null;
    if (found.evidence.clip) {
      video = h("video", { src: api.address(`${api.alert(id)}/clip`), controls: true, autoplay: true, muted: true, playsinline: true, loop: true,
        poster: found.evidence.snapshot ? api.address(`${api.alert(id)}/snapshot`) : null, "aria-label": t("clip") });
      const trouble = h("p", { class: "warn", hidden: true });
      let converted = false, begun = false;
      video.addEventListener("loadedmetadata", () => {
        // A browser that knows the sound but not the pictures plays the sound alone, and calls that no error.
        if (!video.videoWidth) return convert();
        if (!begun) { begun = true; video.currentTime = Math.max(0, found.onset_s - 1 - begin()); }
        scores();
      });
      video.addEventListener("playing", () => (trouble.hidden = video.videoWidth > 0));
      video.addEventListener("error", convert);
      function convert() {
        trouble.hidden = false;
        if (converted) return void fill(trouble, t("cannot_play"), " ", h("a", { href: api.address(`${api.alert(id)}/clip`), download: "" }, t("download")));
        converted = true;
        say(trouble, t("converting"));
        video.src = api.address(`${api.alert(id)}/clip?playable=true`);
        video.play().catch(() => {});
      }
      parts.push(video, trouble);
    } else parts.push(h("p", { class: "empty" }, found.evidence.state === "pending" ? t("evidence_pending") : t("evidence_none")));
    if (found.evidence.snapshot)
      more.push(h("a", { class: "snapshot", href: api.address(`${api.alert(id)}/snapshot`), target: "_blank", rel: "noopener" },
        h("img", { src: api.address(`${api.alert(id)}/snapshot`), alt: t("snapshot") }), h("span", {}, t("snapshot"))));
    if (found.evidence.note) more.push(h("p", { class: "note" }, sentence(found.evidence.note)));
    fill(media, parts);
    fill(proof, more);
  }

  const length = () => (video && Number.isFinite(video.duration) ? video.duration : 0);
  const begin = () => found.clip_ends_s - length();

  async function scores() {
    curve ??= new Curve(chart);
    const fromS = Math.min(found.onset_s, length() ? begin() : found.onset_s) - AROUND_S;
    const toS = Math.min(Math.max(found.clip_ends_s + AROUND_S, (found.ended_s ?? 0) + 5), fromS + 300);
    try {
      const data = await api.get(`${api.camera(found.camera)}/scores?from=${fromS}&to=${toS}`);
      if (gone) return;
      curve.show({ fromS, toS, points: data.points, statuses: data.statuses, stepS: data.step_s, raiseAt: found.threshold, parts: true,
        alerts: [found], span: length() ? [begin(), found.clip_ends_s] : null, cursorS: null,
        onpick: (s) => { if (video) video.currentTime = Math.min(Math.max(s - begin(), 0), length()); } });
    } catch (error) {
      toast(error.message);
    }
  }

  function follow() {
    if (video && curve && length()) curve.cursor(begin() + video.currentTime);
    frame = requestAnimationFrame(follow);
  }

  async function past() {
    try {
      const list = await api.get(`alerts?camera=${encodeURIComponent(found.camera)}&before=${encodeURIComponent(id)}&most=8`);
      if (!gone) fill(earlier, h("h2", {}, t("earlier_here")), list.length ? h("ul", { class: "past" }, list.map((one) => h("li", {},
        h("a", { href: `#/alert/${encodeURIComponent(one.alert_id)}` }, atShort(one.raised_s)), ` ${score(one.peak_score)} `,
        h("span", {}, one.verdict ? named("verdict", one.verdict.verdict) : t("unjudged"))))) : h("p", { class: "empty" }, t("none")));
      const like = await api.get(`${api.alert(id)}/similar`);
      if (!gone && like.length) fill(alike, h("h2", {}, t("similar")), h("ul", { class: "past similar" }, like.map((one) => h("li", {},
        h("a", { href: `#/alert/${encodeURIComponent(one.alert_id)}` }, atShort(one.raised_s)), ` ${t("likeness", { n: Math.round(one.likeness * 100) })} `,
        h("span", {}, one.verdict ? named("verdict", one.verdict) : t("unjudged"))))));
    } catch { /* the page is whole without it */ }
  }

  async function judge(verdict) {
    if (!found || state.role !== "operator") return;
    try {
      await api.post(`${api.alert(id)}/verdict`, { verdict, category: category.value || null, note: note.value });
      toast(t("kept", { verdict: named("verdict", verdict) }));
      load();
    } catch (error) {
      toast(error.message);
    }
  }

  async function acknowledge() {
    if (!found || state.role !== "operator") return;
    try {
      await api.post(`${api.alert(id)}/acknowledgement`);
      toast(t("acknowledged"));
      load();
    } catch (error) {
      toast(error.message);
    }
  }

  const put = () => found && state.role === "operator" && shelve(found.camera);

  const onChange = (event) => {
    if (event.detail.news.some(([, news]) => news.alert_id === id)) setTimeout(() => gone || load(), 1200);
  };
  live.addEventListener("change", onChange);
  load();
  follow();
  return {
    keys: {
      r: () => judge("real"), f: () => judge("false"), u: () => judge("unsure"), a: acknowledge, s: put, n: () => next(id),
      " ": () => video && (video.paused ? video.play() : video.pause()),
      ArrowLeft: () => found?.older && (location.hash = `#/alert/${encodeURIComponent(found.older)}`),
      ArrowRight: () => found?.newer && (location.hash = `#/alert/${encodeURIComponent(found.newer)}`),
    },
    redraw: () => curve?.draw(),
    leave() {
      gone = true;
      cancelAnimationFrame(frame);
      live.removeEventListener("change", onChange);
      video?.pause();
    },
  };
}
