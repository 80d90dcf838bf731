// A day of Vercel's AI SDK.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { apiKey, baseURL, exhaust, failure, limitedKey, marker, step } from "./day.mjs";

const provider = (key) =>
  createOpenAICompatible({
    name: "headrace",
    baseURL,
    apiKey: key,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const headrace = provider(apiKey);
const limited = provider(limitedKey);
const place = z.object({ city: z.string() });

await step("chat", async () => {
  const answer = await generateText({ model: headrace("provider-hello"), prompt: "Hi" });
  assert.equal(answer.text, "Hello there.");
  assert.equal(answer.finishReason, "stop");
  assert.ok(answer.usage.totalTokens > 0);
});

await step("stream with usage", async () => {
  const answer = streamText({ model: headrace("provider-slow-stream"), prompt: "Hi" });
  let pieces = 0;
  for await (const piece of answer.textStream) if (piece) pieces += 1;
  assert.equal(pieces, 8);
  assert.ok((await answer.usage).totalTokens > 0);
});

const weather = (cities) =>
  tool({
    description: "Return the weather of a city.",
    inputSchema: place,
    execute: async ({ city }) => {
      cities.push(city);
      return "sun";
    },
  });
for (const run of [generateText, streamText]) {
  await step(`tools by ${run.name}`, async () => {
    const cities = [];
    const answer = await run({
      model: headrace("provider-tool-call"),
      prompt: "Weather in Oslo and Rome?",
      tools: { weather: weather(cities) },
      stopWhen: stepCountIs(3),
    });
    assert.equal(await answer.text, "It is sunny.");
    assert.deepEqual(cities.sort(), ["Oslo", "Rome"]);
  });
}

await step("structured output", async () => {
  const { output } = await generateText({
    model: headrace("provider-standard"),
    prompt: "Weather in 'Oslo'?",
    output: Output.object({ schema: place }),
  });
  assert.deepEqual(output, { city: "Oslo" });
});

await step("errors", async () => {
  const fails = (model, more = {}) =>
    failure(() => generateText({ model, prompt: "Hi", maxRetries: 0, ...more }));
  assert.equal((await fails(provider("wrong")("provider-hello"))).statusCode, 401);
  assert.equal((await fails(headrace("absent"))).statusCode, 404);
  const over = await fails(headrace("provider-hello"), { maxOutputTokens: 10 ** 9 });
  assert.equal(over.statusCode, 400);
  assert.equal(JSON.parse(over.responseBody).error.param, "max_tokens");
});

await step("aborted stream", async () => {
  const controller = new AbortController();
  const answer = streamText({
    model: headrace("provider-slow-stream"),
    prompt: marker,
    abortSignal: controller.signal,
  });
  let aborted = false;
  for await (const part of answer.fullStream) {
    if (part.type === "text-delta") controller.abort();
    if (part.type === "abort") aborted = true;
  }
  assert.ok(aborted);
});

await step("retry after 429", async () => {
  const request = { model: limited("provider-hello"), prompt: "Hi" };
  const error = await exhaust(() => generateText({ ...request, maxRetries: 0 }));
  assert.equal(error.statusCode, 429);
  assert.equal((await generateText({ ...request, maxRetries: 1 })).text, "Hello there.");
});
