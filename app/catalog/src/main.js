/** `node src/main.js`: the service until SIGTERM or SIGINT. */

import { ConfigError, readSettings } from "./config.js";
import { JsonLog } from "./logs.js";
import { serve } from "./serve.js";
import { Service } from "./web.js";

const log = new JsonLog();

// The process is in an unknown state: its last line says why, and whoever supervises it starts another one.
process.on("uncaughtException", (error) => {
  log.write("critical", `uncaught exception: ${error?.message ?? error}`, { exception: error?.stack });
  process.exit(1);
});

try {
  const settings = readSettings(process.env);
  // Without an endpoint the process never pays for the import.
  const tracing = settings.traces ? new (await import("./tracing.js")).Tracing(settings.serviceName, log) : undefined;
  await serve(new Service(settings, log, tracing));
} catch (error) {
  if (!(error instanceof ConfigError)) {
    throw error;
  }
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
process.exit();
