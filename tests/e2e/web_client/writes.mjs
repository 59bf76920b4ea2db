// What a web app writes through the official JavaScript SDK, on its stream of writes; FIRESTORE_EMULATOR_HOST says where.
// Prints what it observed as one line of JSON; the test compares.
import { initializeApp } from "firebase/app";
import { arrayUnion, collection, connectFirestoreEmulator, deleteDoc, doc, getCountFromServer } from "firebase/firestore";
import { getDoc, getDocs, getFirestore, increment, runTransaction, serverTimestamp, setDoc } from "firebase/firestore";
import { setLogLevel, terminate, updateDoc, writeBatch } from "firebase/firestore";

setLogLevel("silent"); // it complains of the write that is to fail
const db = getFirestore(initializeApp({ projectId: process.env.GOOGLE_CLOUD_PROJECT }));
const [host, port] = process.env.FIRESTORE_EMULATOR_HOST.split(":");
connectFirestoreEmulator(db, host, Number(port));
const seen = {};

const one = doc(db, "items/one");
await setDoc(one, { n: 1, tags: ["a"], at: serverTimestamp() });
await updateDoc(one, { n: increment(2), tags: arrayUnion("b") });
const { at, ...others } = (await getDoc(one)).data();
seen.document = others;
seen.atIsRecent = Math.abs(at.toMillis() - Date.now()) < 60_000;
seen.updatedMissing = await updateDoc(doc(db, "items/none"), { n: 1 }).catch((error) => error.code);

await Promise.all([...Array(30).keys()].map((number) => setDoc(doc(db, `many/${number}`), { number })));
const batch = writeBatch(db);
batch.delete(doc(db, "many/0")).update(doc(db, "many/1"), { number: 100 });
await batch.commit();
await deleteDoc(doc(db, "many/2"));
seen.many = (await getDocs(collection(db, "many"))).docs.map((found) => found.data().number).sort((a, b) => a - b);
seen.count = (await getCountFromServer(collection(db, "many"))).data().count;

await runTransaction(db, async (transaction) => {
  const read = await transaction.get(one);
  transaction.update(one, { n: read.data().n * 10 });
});
seen.transacted = (await getDoc(one)).data().n;
console.log(JSON.stringify(seen));
await terminate(db);
