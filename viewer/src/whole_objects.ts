/** A store of zarrita some of whose objects are read at once, for who reads all of their parts. */

import type { AbsolutePath, AsyncReadable, RangeQuery } from "zarrita";
import type { HttpStore } from "./http_store";

export class WholeObjects implements AsyncReadable {
  private readonly held = new Map<AbsolutePath, Promise<Uint8Array | undefined>>();

  constructor(private readonly store: HttpStore) {}

  /** Read an object by one request, from which its parts are taken while a task lasts. */
  async during<T>(key: AbsolutePath, task: () => Promise<T>): Promise<T> {
    this.held.set(key, this.store.get(key));
    try {
      return await task();
    } finally {
      this.held.delete(key);
    }
  }

  get(key: AbsolutePath): Promise<Uint8Array | undefined> {
    return this.held.get(key) ?? this.store.get(key);
  }

  async getRange(key: AbsolutePath, range: RangeQuery): Promise<Uint8Array | undefined> {
    const held = this.held.get(key);
    if (held === undefined) return this.store.getRange(key, range);
    const body = await held;
    if (body === undefined) return undefined;
    const start = "suffixLength" in range ? body.length - range.suffixLength : range.offset;
    const length = "suffixLength" in range ? range.suffixLength : range.length;
    const part = body.slice(Math.max(0, start), Math.max(0, start + length));
    this.store.checkLength(key, part, range);
    return part;
  }
}
