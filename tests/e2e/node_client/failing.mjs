// Streams that fail, through the official Node client; FIRESTORE_EMULATOR_HOST says where.
// Prints the code of each failure as one line of JSON.
import { Firestore } from "@google-cloud/firestore";

const db = new Firestore({ projectId: process.env.GOOGLE_CLOUD_PROJECT });
const items = db.collection("items");
const seen = {};

async function fails(name, action) {
  seen[name] = await action().then(
    () => "no failure",
    (error) => error.code,
  );
}

await db.doc("items/one").get();
await fails("get", () => db.doc("items/__reserved__").get());
await fails("query", () => items.where("a", "array-contains", 1).where("b", "array-contains", 2).get());
await fails("aggregation", () => items.where("a", "array-contains", 1).where("b", "array-contains", 2).count().get());
await fails("explanation", () => items.explain());
await fails("pipeline", () => db.pipeline().collection("items").execute());

console.log(JSON.stringify(seen));
await db.terminate();
