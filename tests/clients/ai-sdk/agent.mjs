// An agent on Vercel's AI SDK: three turns with a function's call and its result each, whole and in
// pieces, and an answer by schema. Usage: `node agent.mjs BASE_URL KEY MODEL`. Prints what it heard
// as JSON, without ids and times.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, apiKey, name] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "gate", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const model = provider(name);
const weather = tool({
  description: "the weather of a city, today or in some days",
  inputSchema: z.object({ city: z.string(), days: z.number().int().min(0).max(9).optional() }),
  execute: async ({ city }) => `fine in ${city}`,
});
const settings = { model, maxRetries: 0, system: "be brief", temperature: 0 };

/** The conversation of three turns. Every request repeats all earlier messages. */
async function agent(inPieces) {
  const messages = [];
  const heard = [];
  for (const city of ["Delft", "Ghent", "Kyiv"]) {
    messages.push({ role: "user", content: `how is it in ${city}` });
    const turn = { ...settings, messages, tools: { weather }, stopWhen: stepCountIs(3) };
    const result = inPieces ? streamText(turn) : await generateText(turn);
    const steps = await result.steps;
    const calls = steps.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input]));
    heard.push({ text: await result.text, reasoning: steps.map((step) => step.reasoningText ?? null), calls });
    messages.push(...(await result.response).messages);
  }
  return heard;
}

const output = Output.object({ schema: z.object({ digit: z.number().int(), sure: z.boolean() }) });
const shaped = await generateText({ ...settings, prompt: "the digit 7", output });
console.log(JSON.stringify({ whole: await agent(false), pieces: await agent(true), shaped: shaped.output }));
