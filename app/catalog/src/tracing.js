/** Spans by OpenTelemetry. Imported only when an OTLP endpoint is set. */

import { DiagLogLevel, ROOT_CONTEXT, SpanKind, SpanStatusCode, defaultTextMapGetter, diag } from "@opentelemetry/api";
import { W3CTraceContextPropagator, setGlobalErrorHandler } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const SAMPLED = 1;

/** The span pipeline of one process: one server span per request, batches, OTLP over HTTP. */
export class Tracing {
  #propagator = new W3CTraceContextPropagator();
  #provider;
  #tracer;

  /**
   * Build the pipeline; endpoint, headers, sampler and batch sizes come from the `OTEL_*` variables.
   *
   * @param {string} serviceName
   * @param {import("./logs.js").JsonLog} log where the SDK says what goes wrong
   */
  constructor(serviceName, log) {
    /** @type {(level: string) => import("@opentelemetry/api").DiagLogFunction} */
    const say = (level) => (message, ...details) =>
      log.write(level, [message, ...details].join(" "), { logger: "opentelemetry" });
    const silent = () => {};
    diag.setLogger(
      { error: say("error"), warn: say("warning"), info: silent, debug: silent, verbose: silent },
      { logLevel: DiagLogLevel.WARN },
    );
    setGlobalErrorHandler((failure) => {
      const error = failure instanceof Error ? failure : new Error(String(failure));
      log.write("error", `spans could not be exported: ${error.message || error.name}`, {
        logger: "opentelemetry",
        exception: error.stack,
      });
    });
    this.#provider = new BasicTracerProvider({
      resource: defaultResource()
        .merge(detectResources({ detectors: [envDetector] }))
        .merge(resourceFromAttributes({ "service.name": serviceName })),
      spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
    });
    this.#tracer = this.#provider.getTracer("catalog");
  }

  /**
   * Start the span of a request, as a child of the caller's.
   *
   * @param {import("node:http").IncomingMessage} req
   * @param {string} method
   * @param {string} path
   * @param {string | undefined} runId
   */
  begin(req, method, path, runId) {
    const parent = this.#propagator.extract(ROOT_CONTEXT, req.headers, defaultTextMapGetter);
    // What is undefined is no attribute.
    const attributes = {
      "client.address": req.socket.remoteAddress,
      "user_agent.original": req.headers["user-agent"],
      "server.address": req.socket.localAddress,
      "url.path": path,
      "url.scheme": "http",
      "http.request.method": method,
      "vigie.run_id": runId,
    };
    return new RequestSpan(this.#tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, parent));
  }

  /**
   * Export all ended spans and stop; give up after some time.
   *
   * @param {number} timeout milliseconds
   * @returns {Promise<boolean>} false if the spans could not be handed over in time
   */
  async shutdown(timeout) {
    const done = this.#provider.shutdown().then(() => true, () => false);
    return Promise.race([done, new Promise((resolve) => setTimeout(resolve, timeout, false))]);
  }
}

/** The server span of one request. */
export class RequestSpan {
  #span;

  /** @param {import("@opentelemetry/api").Span} span */
  constructor(span) {
    this.#span = span;
    const { traceId, spanId, traceFlags } = span.spanContext();
    this.traceId = traceId;
    this.spanId = spanId;
    this.sampled = (traceFlags & SAMPLED) !== 0;
  }

  /**
   * Keep what a handler threw.
   *
   * @param {Error} error
   */
  failed(error) {
    this.#span.recordException(error);
  }

  /**
   * Complete the span with what is known once there is a response.
   *
   * @param {string} method
   * @param {string | undefined} route
   * @param {number} status
   */
  end(method, route, status) {
    if (route !== undefined) {
      this.#span.updateName(`${method} ${route}`);
      this.#span.setAttribute("http.route", route);
    }
    this.#span.setAttribute("http.response.status_code", status);
    if (status >= 500) {
      this.#span.setStatus({ code: SpanStatusCode.ERROR });
    }
    this.#span.end();
  }
}
