// Deletes each document whose path comes on a line of the standard input, with all that lies below it, and says so.
import { createInterface } from "node:readline";
import { Firestore } from "@google-cloud/firestore";

const firestore = new Firestore();

for await (const path of createInterface({ input: process.stdin })) {
  firestore.recursiveDelete(firestore.doc(path)).then(
    () => console.log(`done ${path}`),
    (error) => console.log(`failed ${path} ${error.message}`),
  );
}
