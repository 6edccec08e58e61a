/** The request metrics and how they are exposed: names, labels and buckets are those of the Flask service. */

import { Counter, Gauge, Histogram, Registry, Summary, collectDefaultMetrics } from "prom-client";

// Label values for what no rule describes. A client chooses paths and method names freely, so each of them must
// collapse into one value or the number of time series would be in the client's hands.
export const UNMATCHED_ROUTE = "unmatched";
export const OTHER_METHOD = "_OTHER";
export const KNOWN_METHODS = new Set([
  "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
]);

// As text: prom-client prints a number as 1, OpenMetrics demands 1.0, and both are compared as numbers.
const BUCKETS = [
  "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0",
];

/** Metrics of one service, in a registry of their own. */
export class RequestMetrics {
  /** @type {Registry<import("prom-client").RegistryContentType>} */
  #openMetrics = new Registry();
  #text = new Registry();
  /** @type {{ runId: string, seconds: number } | undefined} */
  #run;
  #requests;
  #duration;
  #latency;

  constructor() {
    // prom-client keeps exemplars only for a registry of this kind.
    this.#openMetrics.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    const registers = [this.#openMetrics];
    collectDefaultMetrics({ register: this.#openMetrics });
    const seen = () => this.#run;
    new Gauge({
      name: "vigie_run_last_seen_timestamp_seconds",
      help: "Unix time of the last request that carried a valid X-Vigie-Run-Id header (newest run id only).",
      labelNames: ["run_id"],
      registers,
      collect() {
        const run = seen();
        this.reset();
        if (run) {
          this.set({ run_id: run.runId }, run.seconds);
        }
      },
    });
    this.#requests = new Counter({
      name: "http_requests_total",
      help: "Requests answered.",
      labelNames: ["method", "route", "status"],
      enableExemplars: true,
      registers,
    });
    this.activeUsers = new Gauge({
      name: "active_users",
      help: "Requests being served now: arrived in the application and not yet answered.",
      registers,
    });
    this.#duration = new Histogram({
      name: "request_duration_seconds",
      help: "Time from the arrival of a request in the application to its answer.",
      labelNames: ["method", "route"],
      buckets: /** @type {number[]} */ (/** @type {unknown} */ (BUCKETS)),
      enableExemplars: true,
      registers,
    });
    this.#latency = new Summary({
      name: "request_latency_seconds",
      help: "The same time as request_duration_seconds, as sum and count.",
      labelNames: ["method", "route"],
      percentiles: [],
      registers,
    });
    // A counter that first appears with the value 1 hides that first request from rate() and increase().
    this.#requests.inc({ labels: { method: "GET", route: "/", status: "200" }, value: 0 });
    this.#duration.zero({ method: "GET", route: "/" });
    // To print OpenMetrics that registry renames its counters, for good; the other one gets objects with the names as
    // they were that inherit everything else.
    for (const metric of this.#openMetrics.getMetricsAsArray()) {
      const name = { value: metric.name };
      this.#text.registerMetric(Object.create(metric, { name }));
    }
  }

  /**
   * Remember that a request of this run arrived now.
   *
   * @param {string} runId
   */
  see(runId) {
    this.#run = { runId, seconds: Date.now() / 1000 };
  }

  /**
   * Count one answered request.
   *
   * @param {string} method
   * @param {string} route
   * @param {number} status
   * @param {number} seconds
   * @param {Record<string, string> | undefined} exemplarLabels go with the counter and the histogram bucket
   */
  record(method, route, status, seconds, exemplarLabels) {
    this.#requests.inc({ labels: { method, route, status: String(status) }, value: 1, exemplarLabels });
    this.#duration.observe({ labels: { method, route }, value: seconds, exemplarLabels });
    this.#latency.observe({ method, route }, seconds);
  }

  /**
   * Render all metrics in the format that an `Accept` header asks for. Exemplars exist in OpenMetrics only.
   *
   * @param {string} accept
   * @returns {Promise<{ body: string, contentType: string }>}
   */
  async exposition(accept) {
    const types = accept.split(",").map((part) => part.split(";")[0].trim().toLowerCase());
    const registry = types.includes("application/openmetrics-text") ? this.#openMetrics : this.#text;
    return { body: await registry.metrics(), contentType: registry.contentType };
  }
}
