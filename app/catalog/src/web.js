/** The service: its routes and what is recorded for each request. */

import express from "express";

import { KNOWN_METHODS, OTHER_METHOD, RequestMetrics, UNMATCHED_ROUTE } from "./metrics.js";

/** @typedef {import("node:http").IncomingMessage} Request */
/** @typedef {import("node:http").ServerResponse} Response */

export const RUN_ID = /^[A-Za-z0-9._-]{1,40}$/;
export const RUN_ID_HEADER = "x-vigie-run-id";
// Scrapes and probes: measuring, logging or tracing them would drown the traffic that people look for.
export const QUIET_PATHS = new Set(["/metrics", "/healthz", "/readyz"]);

/** What the lookout takes along. */
export const ITEMS = [
  { id: "spyglass", name: "Spyglass", quantity: 2 },
  { id: "lantern", name: "Signal lantern", quantity: 5 },
  { id: "foghorn", name: "Foghorn", quantity: 1 },
];

/** The service of one process. */
export class Service {
  /** One of `starting`, `ready`, `stopping`; only the second one is ready to serve. */
  phase = "starting";
  /** Requests that are not answered yet, scrapes and probes too. */
  inProgress = 0;
  /** @type {(() => void) | undefined} called whenever the last request in progress has been answered */
  onIdle;
  metrics = new RequestMetrics();
  app = express();

  /**
   * @param {import("./config.js").Settings} settings
   * @param {import("./logs.js").JsonLog} log
   * @param {import("./tracing.js").Tracing} [tracing] none: no spans
   */
  constructor(settings, log, tracing) {
    this.settings = settings;
    this.log = log;
    this.tracing = tracing;
    this.app.disable("x-powered-by");
    this.app.disable("etag");
    this.app.enable("strict routing");
    this.app.enable("case sensitive routing");
    this.add("/", (req, res) => {
      res.json({ service: settings.serviceName, items: ITEMS });
    });
    this.add("/healthz", (req, res) => {
      res.json({ status: "alive" });
    });
    this.add("/readyz", (req, res) => {
      res.status(this.phase === "ready" ? 200 : 503).json({ status: this.phase });
    });
    this.add("/metrics", async (req, res) => {
      const { body, contentType } = await this.metrics.exposition(req.headers.accept ?? "");
      // Not res.send(), which would write the content type anew.
      res.setHeader("Content-Type", contentType);
      res.end(body);
    });
  }

  /**
   * Serve a path by GET and HEAD; other methods are refused.
   *
   * @param {string} path
   * @param {import("express").RequestHandler} handler
   */
  add(path, handler) {
    this.app
      .route(path)
      .get(handler)
      .all((req, res) => {
        res.status(405).set("Allow", "GET, HEAD").json({ error: "method not allowed" });
      });
  }

  /**
   * Answer one request; it is measured, logged and traced.
   *
   * @param {Request} req
   * @param {Response} res
   */
  handle = (req, res) => {
    const started = process.hrtime.bigint();
    const path = /** @type {string} */ (req.url).split("?", 1)[0];
    const method = KNOWN_METHODS.has(/** @type {string} */ (req.method)) ? String(req.method) : OTHER_METHOD;
    const header = req.headers[RUN_ID_HEADER];
    const runId = typeof header === "string" && RUN_ID.test(header) ? header : undefined;
    const quiet = QUIET_PATHS.has(path);
    const span = quiet ? undefined : this.tracing?.begin(req, method, path, runId);
    if (runId !== undefined) {
      this.metrics.see(runId);
    }
    if (this.phase === "stopping") {
      res.setHeader("Connection", "close");
    }
    this.inProgress += 1;
    if (!quiet) {
      this.metrics.activeUsers.inc();
    }
    // Comes after "finish", and where the client has left without it, too.
    res.once("close", () => {
      if (!quiet) {
        this.metrics.activeUsers.dec();
        this.#record(req, res, { path, method, runId, span, seconds: Number(process.hrtime.bigint() - started) / 1e9 });
      }
      this.inProgress -= 1;
      if (this.inProgress === 0) {
        this.onIdle?.();
      }
    });
    this.app(
      /** @type {import("express").Request} */ (req),
      /** @type {import("express").Response} */ (res),
      (/** @type {any} */ error) => {
        if (error === undefined || error === null) {
          respond(res, 404, "not found");
          return;
        }
        const status = error.status >= 400 && error.status < 500 ? error.status : 500;
        if (status === 500) {
          span?.failed(error);
          this.log.write("error", `exception on ${path} [${req.method}]`, {
            logger: "catalog",
            exception: error.stack ?? String(error),
            ...identifiers(runId, span),
          });
        }
        respond(res, status, status === 500 ? "internal error" : "bad request");
      },
    );
  };

  /**
   * @param {Request} req
   * @param {Response} res
   * @param {{ path: string, method: string, runId?: string, span?: import("./tracing.js").RequestSpan,
   *   seconds: number }} facts
   */
  #record(req, res, { path, method, runId, span, seconds }) {
    const status = res.statusCode;
    // Express sets it to the route that was tried last, also where its method was refused.
    const matched = status === 405 ? undefined : /** @type {any} */ (req).route?.path;
    const route = matched ?? UNMATCHED_ROUTE;
    /** @type {Record<string, string>} */
    const exemplar = {};
    if (span?.sampled) {
      exemplar.trace_id = span.traceId; // a span that is not sampled is stored nowhere: nothing to point at
    }
    if (runId !== undefined) {
      exemplar.run_id = runId;
    }
    this.metrics.record(method, route, status, seconds, Object.keys(exemplar).length > 0 ? exemplar : undefined);
    span?.end(method, matched, status);
    this.log.write(status < 400 ? "info" : status < 500 ? "warning" : "error", `${req.method} ${path} ${status}`, {
      method,
      route,
      status,
      duration_ms: Math.round(seconds * 1e6) / 1e3,
      ...identifiers(runId, span),
    });
  }
}

/**
 * @param {string | undefined} runId
 * @param {import("./tracing.js").RequestSpan | undefined} span
 */
function identifiers(runId, span) {
  return { run_id: runId, trace_id: span?.traceId, span_id: span?.spanId };
}

/**
 * @param {Response} res
 * @param {number} status
 * @param {string} error
 */
function respond(res, status, error) {
  if (res.headersSent) {
    res.destroy(); // half an answer must not look like a whole one
    return;
  }
  res.statusCode = status;
  res.setHeader("Content-Type", "application/json; charset=utf-8");
  res.end(JSON.stringify({ error }));
}
