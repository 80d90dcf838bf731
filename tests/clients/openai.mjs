// A day of OpenAI's SDK for Node.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { apiKey, baseURL, exhaust, failure, limitedKey, marker, step } from "./day.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Weather in 'Oslo' and Rome?" }];
const parameters = { type: "object", properties: { city: { type: "string" } } };

await step("models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes("provider-hello"));
});

await step("chat", async () => {
  const answer = await client.chat.completions.create({ model: "provider-hello", messages });
  assert.equal(answer.choices[0].message.content, "Hello there.");
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.usage.total_tokens > 0);
});

await step("stream with usage", async () => {
  const stream = client.chat.completions.stream({
    model: "provider-slow-stream",
    messages,
    stream_options: { include_usage: true },
  });
  let pieces = 0;
  stream.on("content", () => (pieces += 1));
  assert.ok((await stream.totalUsage()).total_tokens > 0);
  assert.equal(pieces, 8);
});

for (const stream of [false, true]) {
  await step(stream ? "runTools, streamed" : "runTools", async () => {
    const cities = [];
    const runner = client.chat.completions.runTools({
      model: "provider-tool-call",
      messages,
      stream,
      tools: [
        {
          type: "function",
          function: {
            name: "weather",
            description: "Return the weather of a city.",
            parameters,
            parse: JSON.parse,
            function: ({ city }) => {
              cities.push(city);
              return "sun";
            },
          },
        },
      ],
    });
    assert.equal(await runner.finalContent(), "It is sunny.");
    assert.deepEqual(cities, ["Oslo", "Rome"]);
  });
}

await step("structured output", async () => {
  const answer = await client.chat.completions.parse({
    model: "provider-standard",
    messages,
    response_format: zodResponseFormat(z.object({ city: z.string() }), "place"),
  });
  assert.deepEqual(answer.choices[0].message.parsed, { city: "Oslo" });
});

await step("responses", async () => {
  const made = await client.responses.create({ model: "provider-hello", input: "Hi" });
  assert.equal(made.output_text, "Hello there.");
  assert.equal((await client.responses.retrieve(made.id)).output_text, "Hello there.");
});

await step("responses, streamed", async () => {
  const stream = client.responses.stream({ model: "provider-slow-stream", input: "Hi" });
  let deltas = 0;
  stream.on("response.output_text.delta", () => (deltas += 1));
  const final = await stream.finalResponse();
  assert.equal(final.status, "completed");
  assert.ok(deltas > 0);
  assert.ok(final.output_text.length > 0);
});

await step("errors", async () => {
  const create = (more, using = client) =>
    failure(() => using.chat.completions.create({ model: "provider-hello", messages, ...more }));
  const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
  assert.ok((await create({}, stranger)) instanceof OpenAI.AuthenticationError);
  assert.ok((await create({ model: "absent" })) instanceof OpenAI.NotFoundError);
  const refused = await create({ n: 2 });
  assert.ok(refused instanceof OpenAI.BadRequestError);
  assert.equal(refused.param, "n");
  const over = await create({ max_tokens: 10 ** 9 });
  assert.ok(over instanceof OpenAI.BadRequestError);
  assert.equal(over.param, "max_tokens");
});

await step("aborted stream", async () => {
  const stream = await client.chat.completions.create({
    model: "provider-slow-stream",
    messages: [{ role: "user", content: marker }],
    stream: true,
  });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
  assert.ok(stream.controller.signal.aborted);
});

await step("retry after 429", async () => {
  const limited = { baseURL, apiKey: limitedKey };
  const once = new OpenAI({ ...limited, maxRetries: 0 });
  const request = { model: "provider-hello", messages };
  const error = await exhaust(() => once.chat.completions.create(request));
  assert.ok(error instanceof OpenAI.RateLimitError);
  assert.ok(Number(error.headers.get("retry-after")) >= 1);
  // A retry before that time would be refused again, and there is only one.
  const again = new OpenAI({ ...limited, maxRetries: 1 });
  const answer = await again.chat.completions.create(request);
  assert.equal(answer.choices[0].message.content, "Hello there.");
});
