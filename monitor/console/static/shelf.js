// Puts a camera on the shelf: for a time, with a reason.

import * as api from "./api.js";
import { dialog, h, toast } from "./dom.js";
import { live } from "./live.js";
import { atShort, lasting, t } from "./text.js";

export function shelve(name) {
  const now = live.cameras.get(name)?.shelf;
  const reason = h("input", { id: "shelf-reason", required: true, maxlength: 500, autocomplete: "off", value: now?.reason ?? "" });
  const send = async (seconds) => {
    if (seconds && !reason.reportValidity()) return;
    try {
      await api.post(`${api.camera(name)}/shelf`, { seconds, reason: reason.value });
      toast(seconds ? t("shelved_for", { name, time: lasting(seconds) }) : t("unshelved", { name }));
      box.close();
    } catch (error) {
      toast(error.message);
    }
  };
  const { box } = dialog(t("shelve_camera", { name }), t("close"), h("p", {}, t("shelve_means")),
    now ? h("p", {}, t("shelved_by", { who: now.who, at: atShort(now.until_s) })) : null,
    h("label", { for: "shelf-reason" }, t("reason")), reason,
    h("div", { class: "tools" }, [900, 3600, 14400, 43200].map((seconds) =>
      h("button", { type: "button", onclick: () => send(seconds) }, lasting(seconds))),
      now ? h("button", { type: "button", onclick: () => send(0) }, t("unshelve")) : null));
  reason.focus();
}
