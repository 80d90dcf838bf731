// The parts that the scripts share: the environment, a line for each step, and expected errors.
import assert from "node:assert/strict";

export const baseURL = process.env.CLIENT_BASE_URL;
export const apiKey = process.env.CLIENT_API_KEY;
export const limitedKey = process.env.CLIENT_LIMITED_KEY;
export const marker = process.env.CLIENT_MARKER;

// Runs one step; a failure ends the script with the step's name on standard error.
export async function step(name, work) {
  try {
    const result = await work();
    console.log(JSON.stringify({ step: name, result: result ?? null }));
  } catch (error) {
    console.error(`${name}: ${error.stack ?? error}`);
    process.exit(1);
  }
}

export async function failure(work) {
  let value;
  try {
    value = await work();
  } catch (error) {
    return error;
  }
  return assert.fail(`no error, but ${JSON.stringify(value)}`);
}

// Sends requests until one is refused, which the limited key's rate makes one of the first 30; returns the error.
export async function exhaust(work) {
  for (let count = 0; count < 30; count += 1) {
    try {
      await work();
    } catch (error) {
      return error;
    }
  }
  return assert.fail("the rate was not limited");
}
