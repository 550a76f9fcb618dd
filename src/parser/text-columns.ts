// How wide a text is on the screen.

/** How many columns a terminal gives to a text: East Asian letters and most pictures take two, combining marks none. */
export function columnsOf(text: string): number {
  let count = 0;
  for (const letter of text) {
    if (/\p{Mark}|\u200d/u.test(letter)) continue;
    const isWide =
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u;
    count += isWide.test(letter) ? 2 : 1;
  }
  return count;
}
