// One camera: its score over minutes to days with gaps and alerts, its picture, and how it is set.

import * as api from "./api.js";
import { Curve, bars } from "./chart.js";
import { fill, h, say, toast } from "./dom.js";
import { live } from "./live.js";
import { shelve } from "./shelf.js";
import { givesPictures, isScored, showAge } from "./status.js";
import { atShort, lasting, named, score, sentence, t } from "./text.js";

const RANGES = [600, 3600, 21600, 86400, 604800];

export function camera(view, state, name) {
  let gone = false, url = null, capturedS = 0;
  state.range ??= 3600;
  const picture = h("img", { alt: t("picture_of", { name }), hidden: true });
  const age = h("span", { class: "age", hidden: true });
  const status = h("p", { class: "status-line" });
  const chart = h("canvas", { class: "curve tall", role: "img", "aria-label": t("score_curve") });
  const curve = new Curve(chart);
  const ranges = h("div", { class: "tools", role: "group", "aria-label": t("range") }, RANGES.map((seconds, i) =>
    h("button", { type: "button", "data-range": seconds, "aria-pressed": String(seconds === state.range), onclick: () => range(seconds) },
      lasting(seconds), h("kbd", {}, String(i + 1)))));
  const list = h("div"), facts = h("dl", { class: "facts" }), settings = h("dl", { class: "facts" });
  const attention = h("div", { class: "attention", role: "img", "aria-label": t("attention") });
  const parts = h("p", { class: "legend" }, h("span", { class: "k-line" }, t("score")), h("span", { class: "k-long" }, t("long_term")),
    h("span", { class: "k-short" }, t("short_term")), h("span", { class: "k-raise" }, t("raise_at")), h("span", { class: "k-clear" }, t("clear_at")),
    h("span", { class: "k-gap" }, t("not_watched")), h("span", { class: "k-fault" }, named("status", "degraded")), h("span", { class: "k-look" }, t("attention_line")));
  fill(view, h("div", { class: "camera-page" },
    h("div", { class: "camera-head" }, h("div", { class: "shot big" }, picture, age), h("div", {}, h("h1", {}, name), status,
      h("div", { class: "tools" }, h("button", { type: "button", onclick: put }, t("shelve"), h("kbd", {}, "s"))))),
    ranges, h("div", { class: "curve-box" }, chart), parts,
    h("div", { class: "columns" }, h("section", {}, h("h2", {}, t("alerts")), list),
      h("section", {}, h("h2", {}, t("health")), facts, h("h2", {}, t("attention")), attention),
      h("section", {}, h("h2", {}, t("settings")), settings))));

  function now() {
    const one = live.cameras.get(name);
    if (!one) return;
    const last = isScored(one.status) ? one.scores.at(-1) : undefined;
    if (!givesPictures(one.status)) picture.hidden = true;
    showAge(age, picture, capturedS);
    fill(status, one.raised ? h("a", { class: "badge raised", href: `#/alert/${encodeURIComponent(one.alert_id)}` }, `▲ ${t("raised")}`) : null, " ",
      h("strong", {}, named("status", one.status)), ` · ${isScored(one.status) ? "" : `${t("not_scored")}: `}${sentence(one.reason)} · ${t("since", { at: atShort(one.since_s) })}`,
      last === undefined ? "" : ` · ${t("score")} ${score(last)} / ${score(one.raise_at)}`,
      one.shelf ? ` · ⏸ ${t("shelved_by", { who: one.shelf.who, at: atShort(one.shelf.until_s) })}: ${one.shelf.reason}` : "");
  }

  async function detail() {
    try {
      const data = await api.get(api.camera(name));
      if (gone) return;
      fill(facts, Object.entries(data.facts).map(([key, value]) => [h("dt", {}, named("fact", key)), h("dd", {}, value === null ? "–" : sentence(String(value)))]));
      fill(settings, flat(data.settings).map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]));
      bars(attention, data.attention);
    } catch (error) {
      if (error.status === 404) fill(view, h("p", { class: "empty" }, error.message));
    }
  }

  function flat(data, before = "") {
    return Object.entries(data).flatMap(([key, value]) =>
      value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length
        ? flat(value, `${before}${key}.`) : [[before + key, typeof value === "string" ? value : JSON.stringify(value)]]);
  }

  async function past() {
    const asked = state.range, toS = api.now(), fromS = toS - asked;
    try {
      const [data, alerts] = await Promise.all([api.get(`${api.camera(name)}/scores?from=${fromS}&to=${toS}`),
        api.get(`alerts?camera=${encodeURIComponent(name)}&from=${fromS}&to=${toS}&most=500`)]);
      if (gone || asked !== state.range) return;  // another range was chosen while this one was under way
      const one = live.cameras.get(name);
      curve.show({ fromS, toS, points: data.points, statuses: data.statuses, alerts, stepS: data.step_s, leastGapS: state.range > 7200 ? 150 : 6,
        raiseAt: one?.raise_at, clearAt: one?.clear_at, parts: true, onalert: (id) => (location.hash = `#/alert/${encodeURIComponent(id)}`) });
      fill(list, alerts.length ? h("ul", { class: "past" }, alerts.slice(0, 50).map((alert) => h("li", {},
        h("a", { href: `#/alert/${encodeURIComponent(alert.alert_id)}` }, atShort(alert.raised_s)), ` ${score(alert.peak_score)} `,
        h("span", {}, alert.verdict ? named("verdict", alert.verdict.verdict) : t("unjudged"))))) : h("p", { class: "empty" }, t("none")));
    } catch (error) {
      toast(error.message);
    }
  }

  async function shoot() {
    if (document.hidden || !live.live || !state.pictures || !givesPictures(live.cameras.get(name)?.status)) return;
    const found = await api.picture(name);
    capturedS = found?.capturedS ?? 0;
    if (url) URL.revokeObjectURL(url);
    url = found?.url ?? null;
    if (found) picture.src = url;
    picture.hidden = !found;
  }

  function range(seconds) {
    state.range = seconds;
    for (const button of ranges.children) button.setAttribute("aria-pressed", String(Number(button.dataset.range) === seconds));
    past();
  }

  function put() {
    if (state.role === "operator") shelve(name);
  }

  live.addEventListener("change", now);
  live.addEventListener("whole", now);
  let turn = 0;
  const timer = setInterval(() => {
    turn++;
    if (turn % 2 === 0) shoot();
    if (turn % (state.range <= 3600 ? 5 : 60) === 0) past();
    if (turn % 5 === 0) detail();
  }, 1000);
  now(); detail(); past(); shoot();
  return {
    keys: { s: put, ...Object.fromEntries(RANGES.map((seconds, i) => [String(i + 1), () => range(seconds)])) },
    redraw: () => curve.draw(),
    leave() {
      gone = true;
      clearInterval(timer);
      live.removeEventListener("change", now);
      live.removeEventListener("whole", now);
      if (url) URL.revokeObjectURL(url);
    },
  };
}
