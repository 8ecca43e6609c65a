/** The page's side of the worker: each question is a promise. */

import type { Counts } from "./http_store";
import { StoreError } from "./http_store";
import type { Answer, Kind, Requests } from "./messages";
import VectorWorker from "./worker?worker&inline";

export class Reader {
  counts: Counts = { requests: 0, bytes: 0 };
  private readonly worker = new VectorWorker();
  private readonly waiting = new Map<number, [(answer: any) => void, (error: Error) => void]>();
  private next = 0;

  constructor(private readonly onCounts: () => void) {
    this.worker.onmessage = (event: MessageEvent<Answer>) => {
      const said = event.data;
      const [resolve, reject] = this.waiting.get(said.id)!;
      this.waiting.delete(said.id);
      this.counts = said.counts;
      this.onCounts();
      if ("error" in said) reject(new StoreError(said.error));
      else resolve(said.answer);
    };
  }

  ask<K extends Kind>(kind: K, asked: Requests[K]["asked"]): Promise<Requests[K]["answer"]> {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, [resolve, reject]);
      this.worker.postMessage({ id, kind, asked });
    });
  }
}
