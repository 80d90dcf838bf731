// A day of LangChain's ChatOpenAI for JavaScript.
import assert from "node:assert/strict";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { apiKey, baseURL, exhaust, failure, limitedKey, marker, step } from "./day.mjs";

const chat = (model, more = {}) =>
  new ChatOpenAI({ model, apiKey, maxRetries: 0, configuration: { baseURL }, ...more });
const place = z.object({ city: z.string() });
const weather = tool(({ city }) => `sun in ${city}`, {
  name: "weather",
  description: "Return the weather of a city.",
  schema: place,
});

// The option `streaming` would count tokens with a table that is downloaded.
async function streamed(model, input) {
  let all;
  for await (const chunk of await model.stream(input)) all = all ? all.concat(chunk) : chunk;
  return all;
}

await step("chat", async () => {
  const answer = await chat("provider-hello").invoke("Hi");
  assert.equal(answer.text, "Hello there.");
  assert.ok(answer.usage_metadata.total_tokens > 0);
});

await step("stream with usage", async () => {
  let all, pieces = 0;
  for await (const chunk of await chat("provider-slow-stream").stream("Hi")) {
    if (chunk.text) pieces += 1;
    all = all ? all.concat(chunk) : chunk;
  }
  assert.equal(pieces, 8);
  assert.ok(all.usage_metadata.total_tokens > 0);
});

for (const streaming of [false, true]) {
  await step(streaming ? "tools, streamed" : "tools", async () => {
    const model = chat("provider-tool-call").bindTools([weather]);
    const question = new HumanMessage("Weather in Oslo and Rome?");
    const answer = streaming ? streamed : (target, input) => target.invoke(input);
    const first = await answer(model, [question]);
    assert.deepEqual(first.tool_calls.map((call) => call.args.city), ["Oslo", "Rome"]);
    const results = await Promise.all(first.tool_calls.map((call) => weather.invoke(call)));
    assert.ok(results.every((result) => result instanceof ToolMessage));
    assert.equal((await answer(model, [question, first, ...results])).text, "It is sunny.");
  });
}

for (const method of ["jsonSchema", "functionCalling"]) {
  await step(`structured output by ${method}`, async () => {
    const model = chat("provider-standard").withStructuredOutput(place, { method, name: "place" });
    assert.deepEqual(await model.invoke("Weather in 'Oslo'?"), { city: "Oslo" });
  });
}

await step("responses", async () => {
  const answer = await chat("provider-hello", { useResponsesApi: true }).invoke("Hi");
  assert.equal(answer.text, "Hello there.");
});

await step("errors", async () => {
  const status = async (model, more) => (await failure(() => chat(model, more).invoke("Hi"))).status;
  assert.equal(await status("provider-hello", { apiKey: "wrong" }), 401);
  assert.equal(await status("absent"), 404);
  const error = await failure(() => chat("provider-hello", { maxTokens: 10 ** 9 }).invoke("Hi"));
  assert.equal(error.status, 400);
  assert.equal(error.param, "max_tokens");
});

await step("aborted stream", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const error = await failure(async () => {
    for await (const chunk of await chat("provider-slow-stream").stream(marker, { signal }))
      if (chunk.text) controller.abort();
  });
  assert.match(String(error), /abort/i);
});

await step("retry after 429", async () => {
  const error = await exhaust(() => chat("provider-hello", { apiKey: limitedKey }).invoke("Hi"));
  assert.equal(error.status, 429);
  const patient = chat("provider-hello", { apiKey: limitedKey, maxRetries: 4 });
  assert.equal((await patient.invoke("Hi")).text, "Hello there.");
});
