/** Settings of the service, read from the environment and checked before anything starts. */

import { inspect } from "node:util";

export const TRACES_ENDPOINT_VARIABLES = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/** A setting that cannot be used; the text is one sentence naming variable, value and remedy. */
export class ConfigError extends Error {}

/**
 * What one process of the service needs to know.
 *
 * @typedef {object} Settings
 * @property {string} host address to listen on
 * @property {number} port 0 is any free one
 * @property {string} serviceName `service.name` of the spans
 * @property {boolean} traces whether there is a place to send spans to
 */

/**
 * Read `APP_*` and `OTEL_*` variables.
 *
 * Spans are on if and only if an OTLP endpoint is set: without one there is nowhere to send them.
 *
 * @param {Record<string, string | undefined>} env
 * @returns {Settings}
 * @throws {ConfigError} a value is malformed or out of range
 */
export function readSettings(env) {
  const host = env.APP_HOST ?? "127.0.0.1";
  if (host === "" || /\s/.test(host)) {
    throw new ConfigError(`APP_HOST is ${inspect(host)}; set it to an address or host name such as 127.0.0.1.`);
  }
  const endpoints = TRACES_ENDPOINT_VARIABLES.filter((name) => env[name]);
  for (const name of endpoints) {
    checkUrl(name, /** @type {string} */ (env[name]));
  }
  return {
    host,
    port: wholeNumber(env, "APP_PORT", 5001, 0, 65535),
    serviceName: env.OTEL_SERVICE_NAME || "catalog",
    traces: endpoints.length > 0,
  };
}

/**
 * @param {Record<string, string | undefined>} env
 * @param {string} name
 * @param {number} initial value where the variable is not set
 * @param {number} low
 * @param {number} high
 */
function wholeNumber(env, name, initial, low, high) {
  const text = env[name];
  if (text === undefined) {
    return initial;
  }
  // Number() alone would accept "", " 5001", "5e3" and "0x1389".
  if (/^[0-9]+$/.test(text) && Number(text) >= low && Number(text) <= high) {
    return Number(text);
  }
  throw new ConfigError(
    `${name} is ${inspect(text)}; set it to a whole number from ${low} to ${high}, for example ${initial}.`,
  );
}

/**
 * @param {string} name
 * @param {string} value
 */
function checkUrl(name, value) {
  let usable = false;
  try {
    const url = new URL(value);
    // The parser alone would mend "http:host" and drop white space.
    usable = /^https?:\/\/[^\s]+$/i.test(value) && url.hostname !== "" && url.port !== "0";
  } catch {
    // Not an address at all.
  }
  if (!usable) {
    throw new ConfigError(
      `${name} is ${inspect(value)}; set it to an OTLP/HTTP address such as http://127.0.0.1:4318.`,
    );
  }
}
