/**
 * Looks words up among a field's concepts, by the rule of `Field.search` in Python: a text that is a
 * phrase is that phrase; another text is the mean of the phrases that share most words with it.
 */

import * as zarr from "zarrita";
import type { Field } from "./field";
import { FUSED } from "./field";
import type { HttpStore } from "./http_store";
import { StoreError } from "./http_store";
import { lostObject } from "./lost_objects";
import type { WordsFound } from "./messages";
import { unit } from "./similarity";

const STOP_WORDS = new Set(
  "a an and at by for from in is near of on or the to with".split(" "),
);
const TIE = 0.999;
const LINE_FEED = 10;

export class Concepts {
  private readonly phraseWords: Set<string>[];
  private readonly rarity = new Map<string, number>();

  constructor(
    readonly phrases: string[],
    /** Unit vectors. */
    readonly vectors: Float64Array[],
    /** Mean vector of each modality that words are compared with from its centre. */
    readonly centres: Map<string, Float32Array> = new Map(),
    /** Whether the vectors are directions from the mean of all phrases already. */
    private readonly areFromMean = false,
  ) {
    this.phraseWords = phrases.map(wordsOf);
    const counts = new Map<string, number>();
    for (const words of this.phraseWords) {
      for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    for (const [word, count] of counts) {
      this.rarity.set(word, Math.log(1 + phrases.length / count));
    }
  }

  /** Name of the array of the phrases' vectors that a modality is compared with. */
  static arrayFor({ hasFusedPhrases }: Field, modality: string): "fused" | "vectors" {
    return modality === FUSED && hasFusedPhrases ? "fused" : "vectors";
  }

  static async load(store: HttpStore, field: Field, name: "fused" | "vectors"): Promise<Concepts> {
    const root = zarr.root(store);
    const open = (name: string) => zarr.open.v3(root.resolve(name), { kind: "array" });
    const [phraseArray, vectorArray] = await Promise.all([
      open("concepts/phrases"),
      open(`concepts/${name}`),
    ]);
    const [bytes, stored] = await Promise.all([
      zarr.get(phraseArray as zarr.Array<"uint8", HttpStore>),
      zarr.get(vectorArray as zarr.Array<"int8", HttpStore>),
    ]);
    const centres = new Map<string, Float32Array>();
    if (field.hasCentres && name === "vectors") {
      const array = (await open("concepts/centres")) as zarr.Array<"float32", HttpStore>;
      const means = await zarr.get(array);
      const bands = means.shape[1];
      (array.attrs.modalities as string[]).forEach((name, row) =>
        centres.set(name, means.data.subarray(row * bands, (row + 1) * bands)),
      );
    }
    for (const key of store.missing) {
      if (key.startsWith("/concepts/")) throw lostObject(store, key);
    }
    const phrases: string[] = [];
    let first = 0;
    for (let at = 0; at < bytes.data.length; ++at) {
      if (bytes.data[at] !== LINE_FEED) continue;
      phrases.push(new TextDecoder().decode(bytes.data.subarray(first, at)));
      first = at + 1;
    }
    const width = stored.shape[1];
    const vectors = phrases.map((_, row) =>
      unit(stored.data.subarray(row * width, (row + 1) * width)),
    );
    return new Concepts(phrases, vectors, centres, name === "fused");
  }

  /** The vector of a text with terms to add and, behind a minus, to subtract. */
  find(text: string): WordsFound {
    const terms = termsOf(text);
    if (terms.length === 0) throw new StoreError("Type a word to search for, such as forest.");
    const total = new Float64Array(this.vectors[0]?.length ?? 0);
    const phrases: string[] = [];
    const unknown: string[] = [];
    for (const { words, sign } of terms) {
      const found = this.findTerm(words);
      found.vector.forEach((number, band) => (total[band] += sign * number));
      phrases.push(...found.phrases.map((phrase) => (sign < 0 ? `not ${phrase}` : phrase)));
      unknown.push(...found.unknown);
    }
    if (!total.some((number) => Math.abs(number) > 1e-12)) {
      throw new StoreError("The words cancel each other out: ask for fewer of them.");
    }
    return { vector: unit(total), phrases, unknown };
  }

  /** The direction of a vector from the mean of the phrases. */
  fromMean(vector: ArrayLike<number>): Float64Array {
    const mean = this.mean();
    return unit(mean.map((number, band) => vector[band] - number));
  }

  /** The phrases nearest to a vector, by directions from the phrases' mean. */
  nearest(vector: ArrayLike<number>, count: number): { phrases: string[]; scores: number[] } {
    const query = unit(vector);
    const mean = this.mean();
    const scores = this.vectors.map((phrase) => {
      let product = 0;
      let squares = 0;
      for (let band = 0; band < mean.length; ++band) {
        const difference = phrase[band] - mean[band];
        product += query[band] * difference;
        squares += difference * difference;
      }
      return squares > 0 ? product / Math.sqrt(squares) : -Infinity;
    });
    const order = scores.map((_, row) => row).sort((a, b) => scores[b] - scores[a]);
    const best = order.slice(0, count);
    return { phrases: best.map((row) => this.phrases[row]), scores: best.map((row) => scores[row]) };
  }

  private mean(): Float64Array {
    const mean = new Float64Array(this.vectors[0]?.length ?? 0);
    if (this.areFromMean) return mean;
    for (const vector of this.vectors) {
      for (let band = 0; band < mean.length; ++band) mean[band] += vector[band];
    }
    return mean.map((number) => number / this.vectors.length);
  }

  private findTerm(text: string): WordsFound {
    const wanted = wordsOf(text);
    const same = rows(this.phraseWords, (phrase) => equal(phrase, wanted));
    if (same.length > 0) return this.meanOf(same, []);
    const known = new Set([...wanted].filter((word) => this.rarity.has(word)));
    if (known.size === 0) {
      const like = this.phrases.slice(0, 3).map((phrase) => `"${phrase}"`).join(", ");
      throw new StoreError(
        `None of the field's ${this.phrases.length} concepts has a word of "${text.slice(0, 60)}"; there are, ` +
          `for example, ${like}.`,
      );
    }
    const scores = this.phraseWords.map((phrase) => this.jaccard(known, phrase));
    const best = scores.reduce((most, score) => Math.max(most, score), 0);
    const unknown = [...wanted].filter((word) => !this.rarity.has(word)).sort();
    return this.meanOf(rows(scores, (score) => score >= TIE * best), unknown);
  }

  private jaccard(wanted: Set<string>, phrase: Set<string>): number {
    const weight = (word: string) => this.rarity.get(word) ?? 0;
    let both = 0;
    let either = 0;
    for (const word of new Set([...wanted, ...phrase])) {
      either += weight(word);
      if (wanted.has(word) && phrase.has(word)) both += weight(word);
    }
    return both > 0 ? both / either : 0;
  }

  private meanOf(numbers: number[], unknown: string[]): WordsFound {
    const total = new Float64Array(this.vectors[0].length);
    for (const row of numbers) {
      this.vectors[row].forEach((number, band) => (total[band] += number));
    }
    return { vector: unit(total), phrases: numbers.map((row) => this.phrases[row]), unknown };
  }
}

/** Words in lower case, without plural endings and stop words. */
export function wordsOf(text: string): Set<string> {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const content = words.filter((word) => !STOP_WORDS.has(word));
  return new Set(
    (content.length > 0 ? content : words).map((word) =>
      word.length > 3 && word.endsWith("s") && !word.endsWith("ss") ? word.slice(0, -1) : word,
    ),
  );
}

/** `forest +lake -dry desert`: what stands behind a sign, up to the next one. */
export function termsOf(text: string): { words: string; sign: number }[] {
  return text
    .split(/(?:^|\s)(?=[+-])/u)
    .map((term) => term.trim())
    .map((term) => ({ words: term.replace(/^[+-]/u, "").trim(), sign: term.startsWith("-") ? -1 : 1 }))
    .filter(({ words }) => words !== "");
}

function rows<T>(items: T[], wanted: (item: T) => boolean): number[] {
  return items.flatMap((item, row) => (wanted(item) ? [row] : []));
}

function equal(one: Set<string>, other: Set<string>): boolean {
  return one.size === other.size && [...one].every((word) => other.has(word));
}
