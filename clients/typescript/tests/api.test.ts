import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { balanceApi, writeOf, type ApiError, type BalanceApi } from "@example/group-balance/api";

/** A server that answers what the test says, and remembers what it was asked. */
const asked: { url: string; authorization: string | undefined; appCheck: unknown }[] = [];
const refreshes: boolean[] = [];
let answer: (request: IncomingMessage, response: ServerResponse) => void = () => undefined;
let api: BalanceApi;
let url: string;
const server = createServer((request, response) => {
  const { authorization, "x-firebase-appcheck": appCheck } = request.headers;
  asked.push({ url: request.url ?? "", authorization, appCheck });
  answer(request, response);
});

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/balance_api/`;
  const token = async (refresh: boolean) => (refreshes.push(refresh), refresh ? "fresh" : "kept");
  api = balanceApi({ url, token, headers: () => ({ "X-Firebase-AppCheck": "checked" }) });
});
after(() => void server.close());

function answers(status: number, body: unknown, headers: Record<string, string> = {}): void {
  asked.length = refreshes.length = 0;
  answer = (_request, response) => response.writeHead(status, headers).end(typeof body === "string" ? body : JSON.stringify(body));
}

const refusal = (code: string, message = "told") => ({ error: { code, message } });

async function failure(): Promise<ApiError> {
  const got = await api.balance("lisbon");
  assert.ok(!got.ok);
  return got.error;
}

test("a balance is asked for with the user's token, and ids are encoded", async () => {
  answers(200, { groupId: "ü/?" });
  const got = await api.balance("ü/?");
  assert.deepEqual(got, { ok: true, value: { groupId: "ü/?" } });
  assert.deepEqual(asked, [
    { url: "/balance_api/groups/%C3%BC%2F%3F/balance", authorization: "Bearer kept", appCheck: "checked" },
  ]);
});

test("writes to be included, pages and explanations are asked for", async () => {
  answers(200, {});
  const time = { seconds: 1772389325, nanoseconds: 123456000 };
  await api.balance("g", { includes: [writeOf("expenses/e&1", time), writeOf("expenses/e2")] });
  await api.balances();
  await api.balances({ pageSize: 10, pageToken: "é" });
  await api.explain("g", "a b", "c");
  await api.totals();
  assert.deepEqual(asked.map((one) => one.url.replace("/balance_api", "")), [
    "/groups/g/balance?includes=expenses%2Fe%261%402026-03-01T18%3A22%3A05.123456Z&includes=expenses%2Fe2%40latest",
    "/balances",
    "/balances?pageSize=10&pageToken=%C3%A9",
    "/groups/g/explain?from=a%20b&to=c",
    "/totals",
  ]);
});

test("an expired token is replaced once", async () => {
  asked.length = refreshes.length = 0;
  answer = (request, response) =>
    request.headers.authorization === "Bearer fresh"
      ? response.writeHead(200).end('{"groupId":"lisbon"}')
      : response.writeHead(401).end(JSON.stringify(refusal("UNAUTHENTICATED")));
  assert.equal((await api.balance("lisbon")).ok, true);
  assert.deepEqual(refreshes, [false, true]);
  answers(401, refusal("UNAUTHENTICATED"));
  assert.deepEqual(await failure(), { kind: "unauthenticated", status: 401, message: "told" });
  assert.equal(asked.length, 2);
});

const failures: [number, unknown, Record<string, string>, ApiError][] = [
  [400, refusal("INVALID_ARGUMENT", "includes is odd"), {}, { kind: "invalid", status: 400, message: "includes is odd" }],
  [403, refusal("FORBIDDEN"), {}, { kind: "forbidden", status: 403, message: "told" }],
  [404, refusal("GROUP_NOT_FOUND"), {}, { kind: "group not found", status: 404, message: "told" }],
  [404, refusal("NOT_FOUND"), {}, { kind: "not found", status: 404, message: "told" }],
  [404, "<html>no such function</html>", {}, { kind: "not found", status: 404, message: "HTTP 404" }],
  [429, "Rate exceeded.", {}, { kind: "too many requests", status: 429, message: "HTTP 429", retryAfterSeconds: 1 }],
  [429, refusal("X"), { "Retry-After": "30" }, { kind: "too many requests", status: 429, message: "told", retryAfterSeconds: 30 }],
  [503, refusal("BALANCE_READ_ERROR"), { "Retry-After": "2" }, { kind: "unavailable", status: 503, message: "told", retryAfterSeconds: 2 }],
  [504, "upstream", {}, { kind: "unavailable", status: 504, message: "HTTP 504", retryAfterSeconds: 1 }],
  [500, refusal("BALANCE_READ_ERROR"), {}, { kind: "failed", status: 500, message: "told" }],
  [405, refusal("METHOD_NOT_ALLOWED"), {}, { kind: "failed", status: 405, message: "told" }],
];

for (const [status, body, headers, error] of failures) {
  test(`${status} ${JSON.stringify(body)} is told as ${error.kind}`, async () => {
    answers(status, body, headers);
    assert.deepEqual(await failure(), error);
  });
}

test("Retry-After may be a date", async () => {
  answers(503, refusal("BALANCE_READ_ERROR"), { "Retry-After": new Date(Date.now() + 10_000).toUTCString() });
  const error = await failure();
  assert.ok(error.kind === "unavailable" && error.retryAfterSeconds >= 8 && error.retryAfterSeconds <= 10, JSON.stringify(error));
});

test("an answer that is not JSON is a failure that says so", async () => {
  answers(200, "<html>the app's own page</html>");
  const error = await failure();
  assert.equal(error.kind, "failed");
  assert.match(error.message, /not JSON: is the address right\? <html>/);
});

test("no answer is a network error, and so is a token that cannot be had", async () => {
  const nowhere = balanceApi({ url: "http://127.0.0.1:1", token: async () => "t" });
  const got = await nowhere.balance("g");
  assert.ok(!got.ok && got.error.kind === "network");
  const offline = balanceApi({ url, token: () => Promise.reject(new Error("auth/network-request-failed")) });
  assert.deepEqual(await offline.balance("g"), { ok: false, error: { kind: "network", message: "auth/network-request-failed" } });
});

test("a call can be ended", async () => {
  answer = () => undefined;
  const controller = new AbortController();
  const call = api.balance("g", { signal: controller.signal });
  setTimeout(() => controller.abort(), 20);
  const got = await call;
  assert.ok(!got.ok && got.error.kind === "aborted");
  server.closeAllConnections();
});
