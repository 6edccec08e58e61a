/** Logs: one JSON object per line, written without a buffer in between. */

import { writeSync } from "node:fs";

/** Writer of log lines; the fields are those of the Flask service's log. */
export class JsonLog {
  #fd;

  /** @param {number} fd file descriptor to write to: what `write` returned from has left the process */
  constructor(fd = 1) {
    this.#fd = fd;
  }

  /**
   * Write one line; fields that are undefined are left out.
   *
   * A log that cannot be written (closed pipe, full disk) is not a reason to fail a request: it is dropped.
   *
   * @param {string} level
   * @param {string} message
   * @param {Record<string, unknown>} [fields]
   */
  write(level, message, fields = {}) {
    const time = new Date().toISOString(); // RFC 3339 in UTC with milliseconds
    let data = Buffer.from(`${JSON.stringify({ time, level, message, ...fields })}\n`);
    while (data.length > 0) {
      try {
        data = data.subarray(writeSync(this.#fd, data));
      } catch (error) {
        // A full pipe that somebody made non-blocking: waiting keeps the line whole, as a blocking one would.
        if (/** @type {NodeJS.ErrnoException} */ (error).code !== "EAGAIN") {
          return;
        }
        Atomics.wait(PAUSE, 0, 0, 1);
      }
    }
  }
}

const PAUSE = new Int32Array(new SharedArrayBuffer(4));
