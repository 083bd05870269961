// What is called like a secret, in a header or in the query of a URL, and a URL without what its query says.

const words =
  /^((api|access|auth|secret)?(key|token)|secret|password|passwd|pwd|signature|sig|sas|auth|credential)s?$/i;

/** The part of the name that sounds like a secret; undefined where none does. */
export const secretWord = (name: string): string | undefined =>
  name
    .replace(/([a-z0-9])([A-Z])/g, "$1-$2")
    .split(/[-_.\s]/)
    .find((part) => words.test(part));

const hidden = "(hidden)";

/** What a query says in public: the APIs of Azure ask for it. */
const harmless = /^(api-)?version$/i;

/** Names of a query stay, values do not; a part without a name may be a secret as a whole. */
export function withoutQueryValues(url: string): string {
  const at = url.indexOf("?");
  if (at === -1) return url;
  const parts = url.slice(at + 1).split("&");
  const shown = parts.map((part) => {
    const [name = "", ...value] = part.split("=");
    if (part === "" || harmless.test(name)) return part;
    return value.length === 0 ? hidden : `${name}=${hidden}`;
  });
  return `${url.slice(0, at)}?${shown.join("&")}`;
}

/** Whether the URL is one that was printed so. */
export const hasHiddenValue = (url: string): boolean => {
  const at = url.indexOf("?");
  return at !== -1 && url.slice(at).includes(hidden);
};
