/** Tests with the real Firebase SDK, against what `python -m scripts.serve -- npm test` starts: Firestore and the functions. */

import { randomUUID } from "node:crypto";
import type { TestContext } from "node:test";
import { deleteApp, initializeApp } from "firebase/app";
import { collection, connectFirestoreEmulator, doc, getFirestore, setDoc, terminate, type Firestore } from "firebase/firestore";
import { balanceApi, watchBalance, type BalanceApi, type Watched } from "@example/group-balance";

const { FIRESTORE_EMULATOR_HOST, GOOGLE_CLOUD_PROJECT = "demo-balance", FUNCTION_URLS } = process.env;

/** Why tests against the runner are skipped; false when they are not. */
export const skip =
  FIRESTORE_EMULATOR_HOST === undefined || FUNCTION_URLS === undefined
    ? "no Firestore and no functions are there: run `make test-client`"
    : false;

/** A client of its own, with its own cache, ended with the test. */
export function client(t: TestContext): Firestore {
  const app = initializeApp({ projectId: GOOGLE_CLOUD_PROJECT }, randomUUID());
  const firestore = getFirestore(app);
  const [host = "", port = ""] = (FIRESTORE_EMULATOR_HOST ?? "").split(":");
  connectFirestoreEmulator(firestore, host, Number(port));
  t.after(async () => {
    await terminate(firestore);
    await deleteApp(app);
  });
  return firestore;
}

/** The read API, as a user with an unsigned token, which the functions take where they run with the Auth emulator's setting. */
export function apiAs(uid: string): BalanceApi {
  const { balance_api: url = "" } = JSON.parse(FUNCTION_URLS ?? "{}") as Record<string, string>;
  const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: `https://securetoken.google.com/${GOOGLE_CLOUD_PROJECT}`,
    aud: GOOGLE_CLOUD_PROJECT,
    sub: uid,
    user_id: uid,
    iat: now,
    exp: now + 3600,
  };
  const token = `${encoded({ alg: "none", typ: "JWT" })}.${encoded(claims)}.`;
  return balanceApi({ url, token: async () => token });
}

/** A new group; returns its id. */
export async function newGroup(firestore: Firestore, ...members: string[]): Promise<string> {
  const reference = doc(collection(firestore, "groups"));
  await setDoc(reference, { members });
  return reference.id;
}

/** An expense that ana paid, of which another user has the only share. */
export function expense(groupId: string, uid: string, amount: number) {
  return { groupId, paidBy: "ana", amount, currency: "EUR", splits: [{ uid, amount }] };
}

/** Everything that a watch has told, and a way to wait for more. */
export interface Seen {
  all: Watched[];
  until(what: string, condition: (last: Watched) => boolean): Promise<Watched>;
}

const PATIENCE_MS = 40_000;

/** Watch a group's balance until the end of the test. */
export function watch(t: TestContext, firestore: Firestore, groupId: string): Seen {
  const all: Watched[] = [];
  const waiting = new Set<() => void>();
  const stop = watchBalance(firestore, groupId, (watched) => {
    all.push(watched);
    waiting.forEach((look) => look());
  });
  t.after(stop);
  const until = (what: string, condition: (last: Watched) => boolean) =>
    new Promise<Watched>((resolve, reject) => {
      const end = (act: () => void) => {
        clearTimeout(timer);
        waiting.delete(look);
        act();
      };
      const look = () => {
        const last = all.at(-1);
        if (last !== undefined && condition(last)) end(() => resolve(last));
      };
      const late = () => reject(new Error(`${what}: not within ${PATIENCE_MS} ms; last seen: ${JSON.stringify(all.at(-1))}`));
      const timer = setTimeout(() => end(late), PATIENCE_MS);
      waiting.add(look);
      look();
    });
  return { all, until };
}
