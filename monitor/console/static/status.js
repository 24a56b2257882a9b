// What a camera's status means for what is shown of it, and the age of a picture.

import { now } from "./api.js";
import { say } from "./dom.js";
import { lasting, t } from "./text.js";

const OLD_S = 10;

export const isScored = (status) => ["ok", "degraded"].includes(status);
/** Of others, an old picture or the last score would look like a camera that is watched. */
export const givesPictures = (status) => !["lost", "disabled"].includes(status);
/** Not as it should be; who switched a camera off wanted it so. */
export const isTrouble = (status) => !["ok", "disabled", "disarmed"].includes(status);

/** Says how old a picture is that is still shown though no newer one came. */
export function showAge(label, picture, capturedS) {
  const ageS = now() - capturedS;
  label.hidden = picture.hidden || ageS < OLD_S;
  if (!label.hidden) say(label, t("picture_old", { time: lasting(ageS) }));
}
