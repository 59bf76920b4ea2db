// Subscribes to a document and a query with the official Node client; FIRESTORE_EMULATOR_HOST says where.
// Prints what it has after each snapshot as a line of JSON, until its input ends.
import { Firestore } from "@google-cloud/firestore";

const db = new Firestore({ projectId: process.env.GOOGLE_CLOUD_PROJECT });
const seen = {};
const tell = (change) => console.log(JSON.stringify(Object.assign(seen, change)));
const fail = (error) => tell({ error: String(error) });

const unsubscribe = [
  db.doc("groups/g").onSnapshot((snapshot) => tell({ document: snapshot.data() ?? null }), fail),
  db
    .collection("items")
    .where("n", ">=", 10)
    .orderBy("n", "desc")
    .limit(5)
    .onSnapshot((snapshot) => tell({ query: snapshot.docs.map((found) => [found.id, found.get("n")]) }), fail),
];
process.stdin.resume().on("end", async () => {
  unsubscribe.forEach((each) => each());
  await db.terminate();
});
