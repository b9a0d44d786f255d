/* Which two versions the compare page begins with, and what to do about one that does not answer. */
(() => {
"use strict";
const { make, say } = window.Plumbline;

/** The ids in the address, where both versions exist; null otherwise. */
function named(versions) {
  const query = new URLSearchParams(location.search), wanted = [query.get("a"), query.get("b")];
  return wanted.every((id) => versions.some((version) => version.id === id)) ? wanted : null;
}

/** The newest version that is served, against the one that it was made from. */
function newest(versions) {
  const inOrder = [...versions].sort((one, other) => other.served - one.served);
  const [first, second] = inOrder;
  return [first.id, (inOrder.find((version) => version.id === first.parent) ?? second).id];
}

/** A link to where versions are switched on, while prompts wait for one of `ids` that is not served; null otherwise. */
function wayOut(progress, versions, ids) {
  const off = versions.filter((version) => ids.includes(version.id) && !version.served);
  return off.length && progress?.team < progress?.total
    ? make("a", { class: "btn", href: "/models/" }, `Switch ${off.map((one) => one.id).join(" and ")} on`) : null;
}

/** What is to be known while somebody outside answers: where prompts go, and which do not. Null while nobody does. */
function notice(versions, ids, leftOut) {
  const outside = versions.filter((version) => ids.includes(version.id) && version.outside);
  if (!outside.length) return null;
  const where = `${outside.map((one) => one.id).join(" and ")}: what is asked here, by you too, leaves this machine.`;
  return say("", [where, leftOut].filter(Boolean).join(" "));
}

Object.assign(window.Plumbline, { versions: { named, newest, wayOut, notice } });
})();
