/** A store of zarrita over HTTP that counts requests and bytes, and says why a read failed. */

import type { AbsolutePath, AsyncReadable, RangeQuery } from "zarrita";

const TRIES = 3;
const WAIT_MS = 300;

export interface Counts {
  requests: number;
  bytes: number;
}

/** A failure with one sentence for the reader of the page. */
export class StoreError extends Error {}

interface Nodes {
  [path: string]: unknown;
}

/** The root's `zarr.json`, with the metadata of every node below it. */
export interface RootDocument {
  zarr_format: number;
  node_type: string;
  attributes: Record<string, unknown>;
  consolidated_metadata?: { metadata: Nodes };
}

export class HttpStore implements AsyncReadable {
  readonly counts: Counts = { requests: 0, bytes: 0 };
  /** Keys that the server does not have. */
  readonly missing = new Set<string>();

  constructor(
    readonly url: string,
    private root?: RootDocument,
  ) {}

  /** Read the root's metadata, from which all later metadata are taken. */
  async open(): Promise<RootDocument> {
    const body = await this.get("/zarr.json");
    if (body === undefined) {
      throw new StoreError(`There is no zarr.json at ${this.url}: check the address of the store.`);
    }
    try {
      this.root = JSON.parse(new TextDecoder().decode(body)) as RootDocument;
    } catch {
      throw new StoreError(`${this.url}/zarr.json is no JSON: it is cut off, or no Zarr store.`);
    }
    return this.root;
  }

  async get(key: AbsolutePath): Promise<Uint8Array | undefined> {
    const known = this.metadata(key);
    if (known !== undefined) return known ?? undefined;
    return this.fetch(key, undefined);
  }

  async getRange(key: AbsolutePath, range: RangeQuery): Promise<Uint8Array | undefined> {
    const header =
      "suffixLength" in range
        ? `bytes=-${range.suffixLength}`
        : `bytes=${range.offset}-${range.offset + range.length - 1}`;
    const body = await this.fetch(key, header);
    if (body !== undefined) this.checkLength(key, body, range);
    return body;
  }

  /** Throw if a part of an object is shorter than it should be. */
  checkLength(key: string, part: Uint8Array, range: RangeQuery): void {
    const wanted = "suffixLength" in range ? range.suffixLength : range.length;
    if (part.length === wanted) return;
    throw new StoreError(
      `${this.url}${key} gave ${part.length} of ${wanted} bytes: it is cut off. Copy the store anew.`,
    );
  }

  /** Metadata of a node, as the root has them. */
  node(path: string): unknown {
    return this.root?.consolidated_metadata?.metadata[path];
  }

  /** Metadata from the root: bytes, null where the node does not exist, undefined if unknown. */
  private metadata(key: string): Uint8Array | null | undefined {
    const nodes = this.root?.consolidated_metadata?.metadata;
    if (!key.endsWith("/zarr.json") || this.root === undefined) return undefined;
    const path = key.slice(1, -"/zarr.json".length);
    const node = path === "" ? this.root : nodes?.[path];
    return node === undefined ? null : new TextEncoder().encode(JSON.stringify(node));
  }

  private async fetch(key: string, range: string | undefined): Promise<Uint8Array | undefined> {
    const address = this.url + key;
    for (let attempt = 1; ; ++attempt) {
      this.counts.requests += 1;
      let answer: Response;
      try {
        answer = await fetch(address, range === undefined ? {} : ranged(range));
      } catch {
        throw new StoreError(
          `${address} cannot be read: its server is not there, or does not let pages of other ` +
            "addresses read it. Serve the page beside the store (unigeo view STORE), or have the " +
            "server send Access-Control-Allow-Origin and allow the header Range (CORS).",
        );
      }
      // A bucket whose objects may not be listed answers 403 for an object that does not exist.
      if (answer.status === 404 || answer.status === 403) {
        this.missing.add(key);
        return undefined;
      }
      if ((answer.status >= 500 || answer.status === 429) && attempt < TRIES) {
        await new Promise((done) => setTimeout(done, WAIT_MS * attempt));
        continue;
      }
      if (answer.status === 416) {
        throw new StoreError(`${address} has not the bytes that its index names: it is damaged. Copy the store anew.`);
      }
      if (!answer.ok) {
        throw new StoreError(`${address} was answered with ${answer.status}: try again later.`);
      }
      if (range !== undefined && answer.status !== 206) {
        await answer.body?.cancel();
        throw new StoreError(
          `The server of ${this.url} ignores byte ranges, so a vector could only be had with its ` +
            "whole shard. Use a server that answers range requests, such as unigeo view STORE.",
        );
      }
      let body: Uint8Array;
      try {
        body = new Uint8Array(await answer.arrayBuffer());
      } catch {
        if (attempt < TRIES) continue;
        throw new StoreError(`${address} broke off while it was sent: try again later.`);
      }
      this.counts.bytes += sentBytes(answer, body.length);
      return body;
    }
  }
}

/** Bytes that the link carried: fewer than the body has, if the server compresses it. */
function sentBytes(answer: Response, length: number): number {
  if (answer.status !== 200 || !answer.headers.has("Content-Encoding")) return length;
  const said = Number(answer.headers.get("Content-Length"));
  return said > 0 ? said : length;
}

/** Ranges pass the browser's cache by, which would let requests of one object wait for each other. */
function ranged(range: string): RequestInit {
  return { headers: { Range: range }, cache: "no-store" };
}
