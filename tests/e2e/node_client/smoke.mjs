// What server code does with Firestore, through the official Node client; FIRESTORE_EMULATOR_HOST says where.
// Prints what it observed as one line of JSON; the test compares.
import { AggregateField, FieldPath, FieldValue, Filter, Firestore, Timestamp } from "@google-cloud/firestore";

const db = new Firestore({ projectId: process.env.GOOGLE_CLOUD_PROJECT });
const seen = {};

// Documents
const one = db.doc("items/one");
await one.create({ n: 1, tags: ["a"], "odd.name": { deep: true }, at: new Timestamp(7, 123456000) });
seen.createdTwice = await one.create({}).catch((error) => error.code);
await one.update({ n: FieldValue.increment(2), tags: FieldValue.arrayUnion("b"), gone: FieldValue.delete() });
await one.update(new FieldPath("odd.name", "new"), FieldValue.serverTimestamp());
await one.set({ merged: { yes: null } }, { merge: true });
const read = await one.get();
seen.document = { ...read.data(), at: read.get("at").nanoseconds, "odd.name": Object.keys(read.get(new FieldPath("odd.name"))).sort() };
seen.updatedMissing = await db.doc("items/none").update({ n: 1 }).catch((error) => error.code);
seen.staleUpdate = await one.update({ n: 0 }, { lastUpdateTime: read.createTime }).catch((error) => error.code);

// Batches and bulk writes
const batch = db.batch();
for (let n = 0; n < 6; n++) batch.set(db.doc(`items/i${n}`), { n, even: n % 2 === 0 });
await batch.commit();
const writer = db.bulkWriter();
for (let n = 0; n < 30; n++) void writer.set(db.doc(`items/i${n % 6}/below/b${n}`), { n });
await writer.close();

// Queries
const items = db.collection("items");
const ids = async (query) => (await query.get()).docs.map((document) => document.id);
seen.equal = await ids(items.where("even", "==", true));
seen.range = await ids(items.where("n", ">", 1).where("n", "<=", 4).orderBy("n", "desc"));
seen.either = await ids(items.where(Filter.or(Filter.where("n", "==", 5), Filter.where("n", "in", [0, 1]))));
seen.page = await ids(items.orderBy("n").startAfter(await db.doc("items/i2").get()).limit(2));
seen.last = await ids(items.orderBy("n").limitToLast(2));
seen.group = (await db.collectionGroup("below").where("n", "<", 5).get()).size;
seen.count = (await items.count().get()).data().count;
const summary = { sum: AggregateField.sum("n"), average: AggregateField.average("n"), count: AggregateField.count() };
seen.summary = (await items.where("n", ">=", 2).aggregate(summary).get()).data();
seen.nothing = (await items.where("n", ">", 99).aggregate(summary).get()).data();
seen.selected = (await items.where("n", "==", 4).select("even").get()).docs.map((document) => document.data());
seen.all = (await db.getAll(one, db.doc("items/none"))).map((document) => document.exists);
seen.collections = (await db.doc("items/i0").listCollections()).map((collection) => collection.id);

// Transactions: ten at once on one document, by the client's own retries; and a read-only one in the past
await one.set({ n: 0 });
const before = (await one.get()).readTime;
await Promise.all(
  Array.from({ length: 10 }, () =>
    db.runTransaction(async (transaction) => {
      const current = await transaction.get(one);
      transaction.update(one, { n: current.get("n") + 1 });
    }),
  ),
);
seen.counted = (await one.get()).get("n");
seen.past = await db.runTransaction(async (transaction) => (await transaction.get(one)).get("n"), { readOnly: true, readTime: before });

// Deletion
await db.recursiveDelete(items);
seen.left = (await db.listCollections()).length;

console.log(JSON.stringify(seen));
await db.terminate();
