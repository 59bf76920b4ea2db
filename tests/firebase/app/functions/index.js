// Functions that an app had before ours came: one on the documents that ours are on, too, and one on a single document.
const { initializeApp } = require("firebase-admin/app");
const { getFirestore } = require("firebase-admin/firestore");
const { onDocumentCreated, onDocumentWritten } = require("firebase-functions/v2/firestore");

initializeApp();

exports.writefeed = onDocumentWritten("expenses/{expenseId}", (event) => {
  const { before, after } = event.data;
  const amounts = [before, after].map((side) => (side.exists ? side.get("amount") : null));
  return getFirestore().doc(`feed/${event.params.expenseId}-${amounts.join("-")}`).set({ amounts });
});

exports.greet = onDocumentCreated("settings/app", () => getFirestore().doc("settings/greeting").set({ text: "hello" }));

exports.fail = onDocumentCreated("settings/broken", async () => {
  // Not to be retried, as production does not retry it either: functions ask for that.
  const tried = getFirestore().doc("settings/tried");
  await getFirestore().runTransaction(async (transaction) => {
    const times = (await transaction.get(tried)).get("times") ?? 0;
    transaction.set(tried, { times: times + 1 });
  });
  throw new Error("as the test wants it");
});
