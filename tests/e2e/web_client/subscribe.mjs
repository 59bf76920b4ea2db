// Subscribes to a document and a query with the official JavaScript SDK; FIRESTORE_EMULATOR_HOST says where.
// Prints what it has after each snapshot as a line of JSON, until its input ends.
import { initializeApp } from "firebase/app";
import { collection, connectFirestoreEmulator, doc, getFirestore, limit, onSnapshot } from "firebase/firestore";
import { orderBy, query, terminate, where } from "firebase/firestore";

const db = getFirestore(initializeApp({ projectId: process.env.GOOGLE_CLOUD_PROJECT }));
const [host, port] = process.env.FIRESTORE_EMULATOR_HOST.split(":");
connectFirestoreEmulator(db, host, Number(port));
const seen = {};
const fail = (error) => tell({ error: String(error) });

function tell(change) {
  console.log(JSON.stringify(Object.assign(seen, change)));
}

const top = query(collection(db, "items"), where("n", ">=", 10), orderBy("n", "desc"), limit(5));
const unsubscribe = [
  onSnapshot(
    doc(db, "groups/g"),
    { includeMetadataChanges: true },
    (snapshot) => snapshot.metadata.fromCache || tell({ document: snapshot.data() ?? null }),
    fail,
  ),
  onSnapshot(
    top,
    { includeMetadataChanges: true },
    (snapshot) => snapshot.metadata.fromCache || tell({ query: snapshot.docs.map((found) => [found.id, found.get("n")]) }),
    fail,
  ),
];
process.stdin.resume().on("end", async () => {
  unsubscribe.forEach((each) => each());
  await terminate(db);
});
