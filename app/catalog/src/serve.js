/** One process: it listens, and ends by a signal. */

import { createServer } from "node:http";
import { inspect } from "node:util";

import { ConfigError } from "./config.js";

const KEEP_ALIVE_MS = 120_000;
const SHUTDOWN_FLUSH_MS = 2000;

/**
 * Answer requests until SIGTERM or SIGINT, then finish those in progress and return.
 *
 * While the last requests are finished `/readyz` says 503; after the drain time what is left is abandoned.
 *
 * @param {import("./web.js").Service} service
 * @param {number} [drainMs]
 * @throws {ConfigError} the address cannot be used (busy port, unknown host, no permission)
 */
export async function serve(service, drainMs = 3000) {
  const { settings, log } = service;
  const server = createServer(service.handle);
  // Longer than clients keep a connection between two requests, scrapes say: by default it would be closed after 5 s,
  // perhaps at the moment of the next one.
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  const stopped = new Promise((resolve) => {
    const stop = () => {
      if (service.phase === "stopping") {
        return;
      }
      service.phase = "stopping";
      service.onIdle = () => resolve(undefined);
      if (service.inProgress === 0) {
        resolve(undefined);
      }
      setTimeout(resolve, drainMs);
    };
    process.on("SIGTERM", stop).on("SIGINT", stop);
  });
  await listen(server, settings);
  if (service.phase === "starting") {
    service.phase = "ready";
  }
  const { address, port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  log.write("info", "listening", { host: address, port, pid: process.pid, traces: settings.traces });
  await stopped;
  server.close();
  server.closeAllConnections();
  await service.tracing?.shutdown(SHUTDOWN_FLUSH_MS);
  log.write("info", "stopped", { pid: process.pid });
}

/**
 * @param {import("node:http").Server} server
 * @param {import("./config.js").Settings} settings
 * @returns {Promise<void>}
 */
function listen(server, { host, port }) {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => {
      reject(
        new ConfigError(
          `APP_HOST is ${inspect(host)} and APP_PORT is ${port}, but this address cannot be listened on ` +
            `(${error.message}); stop the process that uses it or set another APP_HOST or APP_PORT.`,
        ),
      );
    });
    server.listen({ host, port }, resolve);
  });
}
