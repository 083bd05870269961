// What may be written to a terminal: harmless text, its width, colours.

// Controls move the cursor or start escape sequences (C0, DEL, C1 with its one-byte CSI); the others turn the
// reading direction or break the line, so that what is shown is not what is there.
const harmful = /[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/gu;

const escaped = (character: string): string =>
  `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`;

/** One line of text in which every control character is written out, as in `\u001b[31m`. */
export const harmless = (text: string): string => text.replace(harmful, escaped);

/** JSON escapes C0 alone; C1 and direction marks stand in it as they are, and a terminal obeys them. */
export const harmlessJson = (value: unknown, indent?: number): string =>
  JSON.stringify(value, null, indent).replace(harmful, (character) =>
    character === "\n" ? character : escaped(character),
  );

export const widthOf = (text: string): number => Bun.stringWidth(text);

/** Cuts text to `width` columns, with `…` in place of what does not fit. Wide characters count twice. */
export function cutTo(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  if (width <= 0) return "";
  let cut = "";
  let used = 0;
  for (const character of text) {
    const next = widthOf(character);
    if (used + next > width - 1) break;
    cut += character;
    used += next;
  }
  return `${cut}…`;
}

/** Words on lines of at most `width` columns; a longer word is split. */
export function wrapTo(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ").flatMap((long) => split(long, width))) {
    const joined = line === "" ? word : `${line} ${word}`;
    if (widthOf(joined) <= width) line = joined;
    else {
      if (line !== "") lines.push(line);
      line = word;
    }
  }
  return [...lines, line];
}

function split(word: string, width: number): string[] {
  const parts: string[] = [];
  let part = "";
  for (const character of word) {
    if (part !== "" && widthOf(part + character) > width) {
      parts.push(part);
      part = "";
    }
    part += character;
  }
  return [...parts, part];
}

const colourCodes = { bold: 1, red: 31, green: 32, yellow: 33, grey: 90 } as const;
export type Colour = keyof typeof colourCodes;

export const coloured = (text: string, colour: Colour | undefined, colours: boolean): string =>
  colour !== undefined && colours && text !== "" ? `\u001b[${colourCodes[colour]}m${text}\u001b[0m` : text;
